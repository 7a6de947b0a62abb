"""The poller: what it makes of the records of one look after another."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_idempotent.cli.poller import Change, RecordPoller
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.records import CompletedRecord, CompletedSummary
from tests.cli.harness import claim, complete, damage, name, store_of
from tests.stores.harness import ENDS, HOUR, answer, expire, lapse, owner, running


@pytest.fixture(name="poller")
def _poller(app: Flask) -> RecordPoller:
    return RecordPoller(store_of(app), "IDEMPOTENT_")


def events(poller: RecordPoller) -> list[str]:
    """What one poll reports, in alphabetical order."""
    return sorted(change.event for change in poller.poll())


class TestFirstPoll:
    def test_what_is_in_progress(self, app: Flask, poller: RecordPoller) -> None:
        """What is in progress is reported, and what cannot be read; what is completed is not."""
        lapse(store_of(app), claim(app, "a"))
        claim(app, "b")
        complete(app, "c")
        damage(app, "d")
        assert events(poller) == ["in progress", "in progress", "lapsed", "unreadable"]
        assert events(poller) == []


class TestRun:
    def test_from_claim_to_response(self, app: Flask, poller: RecordPoller) -> None:
        """A claim and its response are reported once each, the response with its run."""
        poller.poll()
        storage_key = claim(app)
        (change,) = poller.poll()
        assert (change.event, change.storage_key, change.waiters) == ("claimed", storage_key, 0)
        assert change.run is not None
        assert change.run.owner == owner("ada")
        store_of(app).complete(storage_key, answer(), ttl_ms=HOUR)
        (completed,) = poller.poll()
        response = CompletedSummary(1, 201, 2.5, "POST", "orders")
        assert completed == Change("completed", storage_key, change.run, response)
        assert poller.poll() == []

    def test_between_two_polls(self, app: Flask, poller: RecordPoller) -> None:
        """Of a run that began and ended meanwhile its response is reported."""
        poller.poll()
        storage_key = complete(app)
        (change,) = poller.poll()
        assert (change.event, change.storage_key, change.run) == ("completed", storage_key, None)

    def test_lapse(self, app: Flask, poller: RecordPoller) -> None:
        """A lease that ends is reported once, and again only when it was renewed meanwhile."""
        storage_key = claim(app)
        poller.poll()
        for _ in "12":
            lapse(store_of(app), storage_key)
            assert (events(poller), events(poller)) == (["lapsed"], [])
            claim(app)
            assert events(poller) == []

    def test_claim_seen_lapsed(self, app: Flask, poller: RecordPoller) -> None:
        """A claim whose lease has ended when it is first seen is reported as lapsed."""
        poller.poll()
        lapse(store_of(app), claim(app))
        assert events(poller) == ["claimed", "lapsed"]

    def test_waiting(self, app: Flask, poller: RecordPoller) -> None:
        """Processes that begin to wait are reported with their number; those that leave are not."""
        storage_key = claim(app)
        poller.poll()
        with store_of(app).listen(storage_key, 5):
            (change,) = poller.poll()
            assert (change.event, change.waiters) == ("waiting", 1)
            assert poller.poll() == []
        assert poller.poll() == []

    def test_gone(self, app: Flask, poller: RecordPoller) -> None:
        """A claim that is no longer there is reported, and a completed record that ends is not."""
        storage_key = claim(app, "a")
        other = complete(app, "b")
        poller.poll()
        expire(store_of(app), storage_key)
        expire(store_of(app), other)
        (change,) = poller.poll()
        assert change == Change("gone", storage_key, running("ada"))
        assert poller.poll() == []


class TestNextRun:
    def test_taken_over(self, app: Flask, poller: RecordPoller) -> None:
        """A claim whose owner died and that another has taken says so, seen before or not."""
        for key in "ab":
            if key == "b":
                poller.poll()
            lapse(store_of(app), claim(app, key, owner="ada"))
        claim(app, "a", owner="bob")
        claim(app, "b", owner="bob")
        assert events(poller) == ["taken over", "taken over"]

    def test_after_a_release(self, app: Flask, poller: RecordPoller) -> None:
        """A tombstone is reported as released; the claim after it is not a take-over."""
        storage_key = claim(app, owner="ada")
        poller.poll()
        store_of(app).release(storage_key, owner("ada"), **ENDS, owner_may_run=True)
        (change,) = poller.poll()
        assert change.event == "released"
        assert change.run is not None
        assert change.run.owner == owner("ada")
        claim(app, owner="bob")
        (change,) = poller.poll()
        assert change.event == "claimed"
        assert change.run is not None
        assert change.run.attempt == 2

    def test_of_another_owner(self, app: Flask, poller: RecordPoller) -> None:
        """A key that was given up and claimed again meanwhile is claimed."""
        storage_key = claim(app, owner="ada")
        poller.poll()
        store_of(app).release(storage_key, owner("ada"), **ENDS)
        claim(app, owner="bob")
        assert events(poller) == ["claimed"]

    def test_correction(self, app: Flask, poller: RecordPoller) -> None:
        """The run of a corrected request, which follows a response, is claimed."""
        storage_key = name()
        refused: CompletedRecord = answer()._replace(status=422, operation=b"POST /orders")
        store_of(app).complete(storage_key, refused, ttl_ms=HOUR)
        poller.poll()
        store_of(app).contend(
            storage_key, running("bob", "two"), ttl_ms=2 * HOUR, takeover=True,
            replaces=owner("ada"),
        )  # fmt: skip
        assert events(poller) == ["claimed"]
        store_of(app).complete(storage_key, answer("bob", "two"), ttl_ms=HOUR)
        assert events(poller) == ["completed"]

    def test_damage(self, app: Flask, poller: RecordPoller) -> None:
        """A record that cannot be read any more is reported once."""
        claim(app)
        poller.poll()
        damage(app)
        assert (events(poller), events(poller)) == (["unreadable"], [])


class TestStore:
    def test_record_that_scan_misses(
        self, app: Flask, poller: RecordPoller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is in progress is looked at by its name too, and not gone because SCAN missed it."""
        claim(app)
        poller.poll()
        monkeypatch.setattr(type(poller.store), "scan", lambda *_: iter(()))
        assert poller.poll() == []

    def test_failure(
        self, app: Flask, poller: RecordPoller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A poll that fails half-way loses nothing: the next one reports what has changed."""
        claim(app, "a")
        poller.poll()
        complete(app, "a")
        claim(app, "b")
        inspect = poller.store.inspect

        def broken(names: set[str]) -> object:
            yield next(iter(inspect(names)))
            raise StoreUnavailable("away")

        with monkeypatch.context() as patch:
            patch.setattr(poller.store, "inspect", broken)
            with pytest.raises(StoreUnavailable):
                poller.poll()
        assert events(poller) == ["claimed", "completed"]
