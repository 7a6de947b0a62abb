"""The command purge: delete many records."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_idempotent.records import ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import RecordInfo
from flask_idempotent.stores.redis.store import RedisStore
from tests.cli.harness import claim, complete, damage, document, name, run, server_of, store_of
from tests.stores.harness import lapse
from tests.support.clients import post


class TestPurge:
    def test_all(self, app: Flask) -> None:
        """All records are deleted, except claims whose lease is running; other keys stay."""
        server_of(app).set("sessions:1", "x")
        lapse(store_of(app), claim(app, "a"))
        complete(app, "b")
        damage(app, "c")
        alive = claim(app, "d")
        asked = run(app, "purge", "--all", text="y\n")
        assert "This deletes 3 records (1 completed, 1 lapsed, 1 unreadable)." in asked.stderr
        assert asked.stdout.startswith("Deleted 3 records. Kept 1 claim whose lease is running")
        assert list(store_of(app).scan("")) in (["sessions:1", alive], [alive, "sessions:1"])
        assert document(app, "purge", "--all", "--yes", "--even-running") == {
            "deleted": 1, "running": 0,
        }  # fmt: skip
        # Its owner may still run, and must not put its claim back.
        assert isinstance(store_of(app).read(alive), ReleasedRecord)
        assert document(app, "purge", "--all", "--yes")["deleted"] == 0

    def test_older(self, app: Flask) -> None:
        """Only older records are deleted; those without an age stay."""
        complete(app, "a")
        damage(app, "b")
        post(app, "young", "/orders")
        assert document(app, "purge", "--older", "1h", "--yes") == {"deleted": 1, "running": 0}
        assert run(app, "purge", "--older", "1h").stdout == "Deleted 0 records.\n"

    def test_no(self, app: Flask) -> None:
        """Without a yes nothing is deleted."""
        complete(app)
        assert run(app, "purge", "--all", text="n\n").exit_code == 1
        assert store_of(app).read(name()) is not None

    def test_claimed_meanwhile(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim that began after the records were read is left alone."""
        store = store_of(app)
        claim(app, owner="ada")

        def answer_slowly(*_: object, **__: object) -> None:
            store.delete([name()])
            claim(app, owner="bob")

        monkeypatch.setattr("flask_idempotent.cli.purge.confirm", answer_slowly)
        assert document(app, "purge", "--all", "--even-running")["deleted"] == 0
        assert isinstance(store.read(name()), RunningRecord)

    @pytest.mark.parametrize("arguments", [[], ["--all", "--older", "1h"]])
    def test_says_which(self, app: Flask, arguments: list[str]) -> None:
        """Either --older or --all must be given."""
        result = run(app, "purge", *arguments)
        assert result.exit_code == 2
        assert "Give either --older, such as --older 2h, or --all." in result.stderr

    def test_in_batches(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """Many records are deleted in several commands."""
        sizes: list[int] = []
        discard = RedisStore._discard

        def note(self: RedisStore, infos: list[RecordInfo]) -> int:
            sizes.append(len(infos))
            return discard(self, infos)

        monkeypatch.setattr(RedisStore, "_discard", note)
        for number in range(501):
            complete(app, str(number))
        assert document(app, "purge", "--all", "--yes")["deleted"] == 501
        assert sizes == [500, 1]
