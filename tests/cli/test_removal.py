"""The commands that change something: release and purge."""

from __future__ import annotations

from types import NoneType

import pytest
from flask import Flask

from flask_idempotent.records import ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import Completion, Renewal, Sight
from flask_idempotent.stores.redis.store import RedisStore
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
        assert post(app, "k", "/orders").status_code == 201

    def test_waiters_are_told(self, app: Flask) -> None:
        """Waiters look again at once."""
        found = claim(app)
        lapse(store_of(app), found)
        with store_of(app).listen(found, 5) as bell:
            assert document(app, "release", "k", "--yes") == {"storage_key": found, "was": "lapsed"}
            until(lambda: bell.rung)

    def test_no(self, app: Flask) -> None:
        """A no, and nobody to ask, change nothing and end with 1; stdout stays empty."""
        lapse(store_of(app), claim(app))
        for text in ("n\n", ""):
            refused = run(app, "release", "k", "--json", text=text)
            assert (refused.exit_code, refused.stdout) == (1, "")
        assert store_of(app).read(name()) is not None

    @pytest.mark.parametrize("kind", ["running", "completed", "unreadable"])
    def test_needs_a_word_more(self, app: Flask, kind: str) -> None:
        """Whatever may run a view twice is refused, unless it is named."""
        {"running": claim, "completed": complete, "unreadable": damage}[kind](app)
        refused = run(app, "release", "k", "--yes")
        assert refused.exit_code == 1
        assert f"--even {kind}" in refused.stderr
        assert document(app, "release", "k", "--yes", "--even", kind)["was"] == kind
        assert isinstance(
            store_of(app).read(name()), ReleasedRecord if kind == "running" else NoneType
        )

    def test_running_is_taken_away(self, app: Flask) -> None:
        """A running owner's renewal does not bring its claim back; its response is kept."""
        store = store_of(app)
        found = claim(app, owner="ada")
        run(app, "release", "k", "--yes", "--even", "running")
        renewal = Renewal(found, running("ada"), HOUR)
        assert store.renew([renewal], until=store.now() + HOUR) == [False]
        assert store.complete(found, answer("ada"), expire=HOUR) is Completion.STORED

    def test_free_already(self, app: Flask) -> None:
        """What is left of a released claim needs no release."""
        claim(app)
        run(app, "release", "k", "--yes", "--even", "running")
        again = run(app, "release", "k", "--yes")
        assert again.exit_code == 1
        assert "free already" in again.stderr

    def test_claimed_meanwhile(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim that began after the look is left alone."""
        store, begun = store_of(app), []
        complete(app)

        def answer_slowly(*_: object, **__: object) -> None:
            store.delete([name()])
            begun.append(claim(app, owner=f"bob {len(begun)}"))

        monkeypatch.setattr("flask_idempotent.cli.removal.ask", answer_slowly)
        refused = run(app, "release", "k", "--yes", "--even", "completed")
        assert refused.exit_code == 1
        assert "changed meanwhile" in refused.stderr
        assert document(app, "purge", "--all", "--even-running")["deleted"] == 0
        assert isinstance(store.read(begun[-1]), RunningRecord)

    def test_late_owners_response_is_kept(self, app: Flask) -> None:
        """A view that ran to its end is not run again: its response takes the claim's place."""
        store = store_of(app)
        lapse(store, claim(app, owner="ada"))
        claim(app, owner="bob")
        store.complete(name(), answer("ada"), expire=HOUR)
        lapse(store, name())
        run(app, "release", "k", "--yes")
        assert store.read(name()) == answer("ada")

    def test_another_owner(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim that was taken over since it was looked at stays."""
        lapse(store_of(app), claim(app, owner="ada"))

        def take_over(*_: object, **__: object) -> None:
            claim(app, owner="bob")

        monkeypatch.setattr("flask_idempotent.cli.removal.ask", take_over)
        refused = run(app, "release", "k")
        assert refused.exit_code == 1
        assert "has changed meanwhile" in refused.stderr
        assert store_of(app).read(name()) is not None


class TestPurge:
    def test_all(self, app: Flask) -> None:
        """Everything goes but claims whose lease runs, and other keys of the server."""
        client = store_of(app)._client  # type: ignore[attr-defined]
        client.execute("SET", "sessions:1", "x")
        lapse(store_of(app), claim(app, "a"))
        complete(app, "b")
        damage(app, "c")
        alive = claim(app, "d")
        asked = run(app, "purge", "--all", text="y\n")
        assert "This deletes 3 records (1 completed, 1 lapsed, 1 unreadable)." in asked.stderr
        assert asked.stdout.startswith("Deleted 3 records. Left 1 claim alone whose lease runs")
        assert list(store_of(app).scan("")) in (["sessions:1", alive], [alive, "sessions:1"])
        assert document(app, "purge", "--all", "--yes", "--even-running") == {
            "deleted": 1, "running": 0,
        }  # fmt: skip
        # Its owner may still run, and must not put its claim back.
        assert isinstance(store_of(app).read(alive), ReleasedRecord)
        assert document(app, "purge", "--all", "--yes")["deleted"] == 0

    def test_older(self, app: Flask) -> None:
        """Only what is older goes; what has no age stays."""
        complete(app, "a")
        damage(app, "b")
        post(app, "young", "/orders")
        assert document(app, "purge", "--older", "1h", "--yes") == {"deleted": 1, "running": 0}
        assert run(app, "purge", "--older", "1h").stdout == "Deleted 0 records.\n"

    def test_no(self, app: Flask) -> None:
        """A no deletes nothing."""
        complete(app)
        assert run(app, "purge", "--all", text="n\n").exit_code == 1
        assert store_of(app).read(name()) is not None

    @pytest.mark.parametrize("arguments", [[], ["--all", "--older", "1h"]])
    def test_says_which(self, app: Flask, arguments: list[str]) -> None:
        """Purging takes --older or --all, never a guess."""
        result = run(app, "purge", *arguments)
        assert result.exit_code == 2
        assert "--older 2h, or --all" in result.stderr

    def test_in_batches(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """Many records are deleted in several commands."""
        sizes: list[int] = []
        discard = RedisStore._discard

        def note(self: RedisStore, sights: list[Sight]) -> int:
            sizes.append(len(sights))
            return discard(self, sights)

        monkeypatch.setattr(RedisStore, "_discard", note)
        for number in range(501):
            complete(app, str(number))
        assert document(app, "purge", "--all", "--yes")["deleted"] == 501
        assert sizes == [500, 1]
