"""The command resolve: answer for an owner that died."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from flask_idempotent import idempotent
from flask_idempotent.records import CompletedRecord, ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import Completion
from tests.cli.harness import (
    RESOLVE,
    claim,
    complete,
    damage,
    die,
    document,
    give_up,
    name,
    run,
    store_of,
    stored,
)
from tests.stores.harness import HOUR, answer, lapse, running
from tests.support.clients import post, recorded
from tests.support.polling import until


class TestAnswer:
    def test_answer(self, app: Flask) -> None:
        """After a yes the requests of the key get the operator's answer."""
        fingerprint = running("ada").fingerprint
        die(app)
        asked = run(
            app, "resolve", "k", "--status", "201", "--header", "Location: /orders/7",
            "--body", '{"order": 7}', text="y\n",
        )  # fmt: skip
        assert asked.exit_code == 0, asked.output
        assert "attempt 1, by here, process 7" in asked.stderr
        assert "Answer its requests with status 201 and a body of 12 bytes?" in asked.stderr
        assert asked.stdout == f"Resolved {name()}.\n"
        record = stored(app)
        assert (record.status, record.body, record.fingerprint) == (
            201,
            b'{"order": 7}',
            fingerprint,
        )
        assert record.headers == (("Location", "/orders/7"), ("Content-Type", "application/json"))
        assert (record.attempt, record.endpoint) == (1, running("ada").endpoint)

    def test_replayed(self, app: Flask) -> None:
        """A retry of the dead request gets it, and another request with the key gets 422."""
        post(app, "k", "/orders", data="one")
        first = store_of(app).read(name())
        assert isinstance(first, CompletedRecord)
        store_of(app).delete([name()])
        dead = running("ada")._replace(fingerprint=first.fingerprint)
        store_of(app).claim(name(), dead, ttl_ms=2 * HOUR)
        lapse(store_of(app), name())
        document(app, *RESOLVE, "--body", "by hand")
        replayed = post(app, "k", "/orders", data="one")
        assert (replayed.status_code, replayed.text) == (201, "by hand")
        assert replayed.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert replayed.headers["Idempotent-Replayed"] == "true"
        assert post(app, "k", "/orders", data="two").status_code == 422

    def test_body_of_a_file(self, app: Flask, tmp_path: Path) -> None:
        """A body that begins with @ is a file's, unchanged; a header says what it is."""
        (tmp_path / "body").write_bytes(b"\xff\n")
        die(app)
        document(app, *RESOLVE, "--body", f"@{tmp_path / 'body'}", "--header", "content-type: a/b")
        assert (stored(app).body, stored(app).headers) == (b"\xff\n", (("content-type", "a/b"),))

    def test_body_of_the_standard_input(self, app: Flask) -> None:
        """A body of - is what the standard input has, and nobody is asked."""
        die(app)
        refused = run(app, "resolve", "k", "--status", "201", "--body", "-", text="typed")
        assert (refused.exit_code, "add --yes" in refused.stderr) == (2, True)
        assert run(app, *RESOLVE, "--body", "-", text="typed").exit_code == 0
        assert stored(app).body == b"typed"

    def test_without_body(self, app: Flask) -> None:
        """Without a body there is none, and no type of one."""
        die(app)
        document(app, "resolve", "k", "--yes", "--status", "204")
        assert (stored(app).status, stored(app).body, stored(app).headers) == (204, b"", ())

    def test_how_long(self, app: Flask) -> None:
        """The answer is kept as long as the claim would have been held, or for ``expire``."""
        die(app)
        document(app, *RESOLVE)
        (info,) = store_of(app).inspect([name()])
        assert 240_000 < info.ttl_ms <= HOUR
        store_of(app).delete([name()])
        store_of(app).claim(name(), running("ada")._replace(grace_ms=999), ttl_ms=1000)
        document(app, *RESOLVE, "--even", "running")
        (info,) = store_of(app).inspect([name()])
        assert 200_000 < info.ttl_ms <= 240_000

    def test_waiters_and_late_owner(self, app: Flask) -> None:
        """Waiters are woken, and a late owner is refused."""
        storage_key = die(app)
        with store_of(app).listen(storage_key, 5) as waiter:
            document(app, *RESOLVE)
            until(lambda: waiter.notified)
        late = store_of(app).complete(storage_key, answer("ada"), ttl_ms=HOUR)
        assert late is Completion.REFUSED

    def test_signal(self, app: Flask) -> None:
        """``resolved`` says what was answered; None where the view runs again."""
        storage_key = die(app)
        with recorded(app) as events:
            document(app, "resolve", "k", "--yes", "--rerun")
            claim(app, owner="bob")
            document(app, *RESOLVE, "--even", "running")
        assert events == [
            ("resolved", {"storage_key": storage_key, "status": None}),
            ("resolved", {"storage_key": storage_key, "status": 201}),
        ]


class TestRerun:
    def test_rerun(self, app: Flask) -> None:
        """The key is free, as after release, and the attempt goes on: a tombstone is left."""
        die(app)
        done = document(app, "resolve", "k", "--yes", "--rerun")
        assert done == {"storage_key": name(), "status": None}
        left = store_of(app).read(name())
        assert isinstance(left, ReleasedRecord)
        assert left.attempt == 1
        assert post(app, "k", "/orders").status_code == 201
        assert stored(app).attempt == 2

    def test_offer(self, app: Flask) -> None:
        """A late owner's response that waits is shown; it takes the place of a run."""
        die(app, "ada")
        claim(app, owner="bob")
        store_of(app).complete(name(), answer("ada"), ttl_ms=HOUR)
        lapse(store_of(app), name())
        asked = run(app, "resolve", "k", "--rerun", text="y\n")
        assert "has left its response, with status 201" in asked.stderr
        assert "nothing runs again" in asked.stderr
        assert store_of(app).read(name()) == answer("ada")

    def test_offer_and_answer(self, app: Flask) -> None:
        """It is shown before an answer too, which replaces it."""
        die(app, "ada")
        claim(app, owner="bob")
        store_of(app).complete(name(), answer("ada"), ttl_ms=HOUR)
        lapse(store_of(app), name())
        asked = run(app, "resolve", "k", "--status", "200", text="y\n")
        assert "has left its response, with status 201. Answer its" in asked.stderr
        assert stored(app).status == 200


class TestRefused:
    @pytest.mark.parametrize(
        ("put", "message"),
        [
            (claim, "--even running"),
            (complete, "nothing to resolve"),
            (give_up, "free already"),
            (damage, "release --even unreadable"),
            (lambda app: None, "There is no record"),
        ],
    )
    def test_not_lapsed(self, app: Flask, put: object, message: str) -> None:
        """Only a claim whose owner died has anything to resolve."""
        assert callable(put)
        put(app)
        before = [info.record for info in store_of(app).inspect([name()])]
        refused = run(app, *RESOLVE)
        assert (refused.exit_code, message in refused.stderr) == (1, True)
        assert [info.record for info in store_of(app).inspect([name()])] == before

    def test_even_running(self, app: Flask) -> None:
        """``--even running`` answers for an owner that lives, whose response is refused."""
        storage_key = claim(app)
        document(app, *RESOLVE, "--even", "running")
        assert stored(app).status == 201
        late = store_of(app).complete(storage_key, answer("ada"), ttl_ms=HOUR)
        assert late is Completion.REFUSED

    def test_no(self, app: Flask) -> None:
        """Without a yes nothing changes."""
        die(app)
        refused = run(app, "resolve", "k", "--status", "201", text="n\n")
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert isinstance(store_of(app).read(name()), RunningRecord)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "Give either --status"),
            (["--rerun", "--status", "200"], "Give either --status"),
            (["--rerun", "--body", "x"], "add --status"),
            (["--status", "200", "--header", "Location"], "is not a header"),
            (["--status", "200", "--header", "A b: c"], "'A b' cannot be sent"),
            (["--status", "99"], "99 is not a final status code"),
            (["--status", "204", "--body", "x"], "status 204 has no body"),
            (["--status", "200", "--body", "@/does/not/exist"], "No such file"),
        ],
    )
    def test_usage(self, app: Flask, arguments: list[str], message: str) -> None:
        """What makes no answer is refused before anything is looked at."""
        refused = run(app, "resolve", "k", "--yes", *arguments)
        assert (refused.exit_code, message in refused.stderr) == (2, True), refused.stderr

    def test_what_is_not_kept(self, app: Flask) -> None:
        """A header that no replay repeats is refused, and so is a body above ``max_body``."""
        die(app)
        refused = run(app, *RESOLVE, "--header", "Set-Cookie: a=b")
        assert (refused.exit_code, "the header Set-Cookie" in refused.stderr) == (1, True)
        app.view_functions["orders"] = idempotent(max_body=3)(lambda: "placed")
        refused = run(app, *RESOLVE, "--body", "four")
        assert (refused.exit_code, "max_body" in refused.stderr) == (1, True)

    def test_changed_meanwhile(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim that was taken over after it was read is left alone."""
        die(app, "ada")
        monkeypatch.setattr(
            "flask_idempotent.cli.resolve.confirm", lambda *_, **__: claim(app, owner="bob")
        )
        refused = run(app, *RESOLVE)
        assert (refused.exit_code, "it has changed" in refused.stderr) == (1, True)
        assert isinstance(store_of(app).read(name()), RunningRecord)
