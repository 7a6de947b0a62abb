"""The command release: free a key."""

from __future__ import annotations

from types import NoneType

import pytest
from flask import Flask

from flask_idempotent.records import ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import Completion, Renewal
from tests.cli.harness import claim, complete, damage, document, name, run, store_of
from tests.stores.harness import HOUR, answer, lapse, running
from tests.support.clients import post
from tests.support.polling import until


class TestRelease:
    def test_lapsed(self, app: Flask) -> None:
        """A claim whose owner died is freed after a yes, and the next request runs."""
        lapse(store_of(app), claim(app))
        asked = run(app, "release", "k", text="y\n")
        assert asked.exit_code == 0
        assert "its lease has lapsed" in asked.stderr
        assert asked.stdout == f"Released {name()}.\n"
        assert isinstance(store_of(app).read(name()), ReleasedRecord)
        assert post(app, "k", "/orders").status_code == 201

    def test_waiters_are_woken(self, app: Flask) -> None:
        """Waiters look again at once."""
        found = claim(app)
        lapse(store_of(app), found)
        with store_of(app).listen(found, 5) as waiter:
            assert document(app, "release", "k", "--yes") == {"storage_key": found, "was": "lapsed"}
            until(lambda: waiter.notified)

    def test_no(self, app: Flask) -> None:
        """Without a yes nothing changes, the exit code is 1, and stdout is empty."""
        lapse(store_of(app), claim(app))
        for text in ("n\n", ""):
            refused = run(app, "release", "k", "--json", text=text)
            assert (refused.exit_code, refused.stdout) == (1, "")
        assert store_of(app).read(name()) is not None

    @pytest.mark.parametrize("kind", ["running", "completed", "unreadable"])
    def test_even(self, app: Flask, kind: str) -> None:
        """A release that may run a view twice is refused, unless --even allows it."""
        {"running": claim, "completed": complete, "unreadable": damage}[kind](app)
        refused = run(app, "release", "k", "--yes")
        assert refused.exit_code == 1
        assert f"--even {kind}" in refused.stderr
        assert document(app, "release", "k", "--yes", "--even", kind)["was"] == kind
        left = ReleasedRecord if kind == "running" else NoneType
        assert isinstance(store_of(app).read(name()), left)

    def test_running_is_taken_away(self, app: Flask) -> None:
        """A running owner's renewal does not restore its claim; its response is still stored."""
        store = store_of(app)
        storage_key = claim(app, owner="ada")
        run(app, "release", "k", "--yes", "--even", "running")
        renewal = Renewal(storage_key, running("ada"), HOUR)
        assert store.renew([renewal], restore_within_ms=HOUR) == [False]
        assert store.complete(storage_key, answer("ada"), ttl_ms=HOUR) is Completion.STORED

    def test_free_already(self, app: Flask) -> None:
        """A tombstone cannot be released: its key is free."""
        claim(app)
        run(app, "release", "k", "--yes", "--even", "running")
        again = run(app, "release", "k", "--yes")
        assert again.exit_code == 1
        assert "free already" in again.stderr

    def test_claimed_meanwhile(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim that began after the record was read is left alone."""
        store = store_of(app)
        complete(app)

        def answer_slowly(*_: object, **__: object) -> None:
            store.delete([name()])
            claim(app, owner="bob")

        monkeypatch.setattr("flask_idempotent.cli.release.confirm", answer_slowly)
        refused = run(app, "release", "k", "--even", "completed")
        assert refused.exit_code == 1
        assert "was not released: it has changed" in refused.stderr
        assert isinstance(store.read(name()), RunningRecord)

    def test_late_owners_response_is_kept(self, app: Flask) -> None:
        """A view that ran to its end is not run again: its response takes the claim's place."""
        store = store_of(app)
        lapse(store, claim(app, owner="ada"))
        claim(app, owner="bob")
        store.complete(name(), answer("ada"), ttl_ms=HOUR)
        lapse(store, name())
        run(app, "release", "k", "--yes")
        assert store.read(name()) == answer("ada")

    def test_another_owner(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim that was taken over after it was read is left alone."""
        lapse(store_of(app), claim(app, owner="ada"))

        def take_over(*_: object, **__: object) -> None:
            claim(app, owner="bob")

        monkeypatch.setattr("flask_idempotent.cli.release.confirm", take_over)
        refused = run(app, "release", "k")
        assert refused.exit_code == 1
        assert "it has changed since it was read" in refused.stderr
        assert store_of(app).read(name()) is not None
