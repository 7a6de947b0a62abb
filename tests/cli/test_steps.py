"""What the commands say of a key's steps, and do with one that is open."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_idempotent.cli.poller import RecordPoller
from flask_idempotent.records import CompletedRecord, ReleasedRecord
from flask_idempotent.stores.base import Step
from tests.cli.harness import claim, complete, document, give_up, name, run, server_of, store_of
from tests.stores.harness import ENDS, HOUR, lapse, owner, running
from tests.support.clients import recorded

ANSWER = ("resolve", "k", "--yes", "--status", "201")


def write(app: Flask, *steps: Step) -> None:
    for step in steps:
        store_of(app).write_step(name(), running("ada"), step, ttl_ms=2 * HOUR)


def stop(app: Flask) -> str:
    """Put a claim into the store whose owner is in its second step; its record's name."""
    storage_key = claim(app)
    reserved = Step("reserve", owner("ada"), 0.0, b"\xa6secret")
    write(app, reserved, Step("charge", owner("ada"), 60.0))
    return storage_key


def die(app: Flask) -> str:
    """The same, and its owner died."""
    storage_key = stop(app)
    lapse(store_of(app), storage_key)
    return storage_key


def fail(app: Flask) -> str:
    """The same, but its owner has given up the claim: the step's function raised an exception."""
    storage_key = stop(app)
    store_of(app).release(storage_key, owner("ada"), has_steps=True, **ENDS)
    return storage_key


@pytest.fixture(params=[die, fail])
def held(app: Flask, request: pytest.FixtureRequest) -> str:
    """The name of a record whose key is held at a step."""
    storage_key: str = request.param(app)
    return storage_key


class TestShow:
    def test_steps(self, app: Flask) -> None:
        """Each step is shown with its state and time, in their order, and no value is."""
        stop(app)
        shown = run(app, "show", "k").stdout
        first, second = (line for line in shown.splitlines() if line.startswith("Step"))
        assert "reserve: ended " in first
        assert first.endswith("ago, at 1970-01-01T00:00:00+00:00")
        assert "charge: began " in second
        assert second.endswith("at 1970-01-01T00:01:00+00:00, and is not known to have ended")
        assert "secret" not in shown
        assert document(app, "show", "k")["steps"] == [
            {"name": "reserve", "state": "ended", "at": "1970-01-01T00:00:00+00:00"},
            {"name": "charge", "state": "started", "at": "1970-01-01T00:01:00+00:00"},
        ]

    def test_consequence(self, app: Flask, held: str) -> None:
        """Where a step is open, it is said who decides."""
        shown = run(app, "show", "k").stdout
        assert "at charge: it is not known whether that step was carried out. A function" in shown

    def test_without_steps(self, app: Flask) -> None:
        """A record without steps has no line of them."""
        complete(app)
        assert "Step" not in run(app, "show", "k").stdout
        assert document(app, "show", "k")["steps"] == []

    def test_damaged(self, app: Flask) -> None:
        """Steps whose times cannot be read are shown with their names and states."""
        stop(app)
        server_of(app).hset(f"{name()}:steps", "echarge", b"damaged")
        shown = run(app, "show", "k").stdout
        assert "reserve: ended at an unknown time" in shown
        assert document(app, "show", "k")["steps"][0]["at"] is None


class TestList:
    def test_held(self, app: Flask, held: str) -> None:
        """--held has keys that are held at a step, tombstones too, and says at which step."""
        (record,) = document(app, "list", "--held")
        assert (record["storage_key"], record["held"]) == (held, True)
        assert {"name": "charge", "state": "started"} in record["steps"]
        (row,) = run(app, "list", "--held").stdout.splitlines()[1:]
        assert " at charge " in row

    def test_not_held(self, app: Flask) -> None:
        """A tombstone whose steps have all ended is free."""
        claim(app)
        write(app, Step("reserve", owner("ada"), 0.0, b"\xc0"))
        store_of(app).release(name(), owner("ada"), has_steps=True, **ENDS)
        assert document(app, "list", "--held") == []
        (record,) = document(app, "list")
        assert (record["state"], record["held"]) == ("released", False)

    def test_is_not_a_record(self, app: Flask) -> None:
        """The steps of a key are not counted as a record."""
        stop(app)
        assert len(document(app, "list")) == 1
        assert (document(app, "stats")["records"], document(app, "stats")["unreadable"]) == (1, 0)
        assert len(RecordPoller(store_of(app), "IDEMPOTENT_").poll()) == 1


class TestResolve:
    def test_answer(self, app: Flask, held: str) -> None:
        """The answer is the key's, and its steps are deleted."""
        asked = run(app, "resolve", "k", "--status", "201", "--body", "by hand", text="y\n")
        assert asked.exit_code == 0, asked.output
        assert "It began charge, which may have been carried out." in asked.stderr
        record = store_of(app).read(held)
        assert isinstance(record, CompletedRecord)
        assert (record.status, record.body) == (201, b"by hand")
        assert store_of(app).read_steps(held, record.fingerprint) == []

    def test_rerun(self, app: Flask, held: str) -> None:
        """The open step may be called again, and the results of the others stay."""
        with recorded(app) as events:
            asked = run(app, "resolve", "k", "--rerun", text="y\n")
        assert "which goes on after 1 recorded step and runs charge again. Free it?" in asked.stderr
        assert asked.stdout == f"Resolved {held}.\n"
        assert events == [("resolved", {"storage_key": held, "status": None})]
        record = store_of(app).read(held)
        assert isinstance(record, ReleasedRecord)
        (step,) = store_of(app).read_steps(held, record.fingerprint)
        assert (step.name, step.state) == ("reserve", "ended")
        refused = run(app, *ANSWER)
        assert (refused.exit_code, "The key is free already" in refused.stderr) == (1, True)

    def test_running(self, app: Flask) -> None:
        """A step that is open in a run whose lease goes on is not resolved."""
        stop(app)
        refused = run(app, *ANSWER)
        assert (refused.exit_code, "renews it and probably runs" in refused.stderr) == (1, True)


class TestRelease:
    def test_held(self, app: Flask, held: str) -> None:
        """A key that is held at a step is freed, and keeps the results of its steps."""
        asked = run(app, "release", "k", text="y\n")
        assert "which goes on after 1 recorded step and runs charge again." in asked.stderr
        assert asked.stdout == f"Released {held}.\n"
        assert document(app, "list", "--held") == []
        record = store_of(app).read(held)
        assert isinstance(record, ReleasedRecord)
        assert len(store_of(app).read_steps(held, record.fingerprint)) == 1

    def test_as_json(self, app: Flask) -> None:
        """Programs learn what the key was."""
        fail(app)
        assert document(app, "release", "k", "--yes")["was"] == "held"


class TestPurge:
    def test_held(self, app: Flask, held: str) -> None:
        """A key that is held is deleted with its steps, after a question that counts it."""
        asked = run(app, "purge", "--all", text="y\n")
        assert asked.stdout == "Deleted 1 record.\n"
        assert any(word in asked.stderr for word in ("(1 held)", "(1 lapsed)"))
        assert server_of(app).keys("*") == []

    def test_free(self, app: Flask) -> None:
        """A tombstone whose steps have ended is left alone, as others are."""
        claim(app)
        write(app, Step("reserve", owner("ada"), 0.0, b"\xc0"))
        store_of(app).release(name(), owner("ada"), has_steps=True, **ENDS)
        assert run(app, "purge", "--all", "--yes").stdout == "Deleted 0 records.\n"


class TestStats:
    def test_held_at_step(self, app: Flask, held: str) -> None:
        """Keys that are held at a step are counted."""
        assert document(app, "stats")["held_at_step"] == 1
        assert "Held at a step  1" in run(app, "stats").stdout


class TestWatch:
    def test_at_the_start(self, app: Flask) -> None:
        """A key that is held at a step is reported first, and another tombstone is not."""
        fail(app)
        give_up(app, "free")
        (line,) = run(app, "watch", "--for", "1ms").stdout.splitlines()
        assert f"released     {name()}  POST orders, here, process 7, held at charge" in line

    def test_lapsed(self, app: Flask) -> None:
        """A claim that lapses in a step is reported with the step."""
        stop(app)
        poller = RecordPoller(store_of(app), "IDEMPOTENT_")
        poller.poll()
        lapse(store_of(app), name())
        (change,) = poller.poll()
        assert (change.event, change.open_steps) == ("lapsed", ("charge",))

    def test_released(self, app: Flask) -> None:
        """A claim that is released in a step is reported with the step."""
        stop(app)
        poller = RecordPoller(store_of(app), "IDEMPOTENT_")
        poller.poll()
        store_of(app).release(name(), owner("ada"), has_steps=True, **ENDS)
        (change,) = poller.poll()
        assert (change.event, change.open_steps) == ("released", ("charge",))
