"""The answers that databases keep: released, purged, and never brought back by a retry."""

from __future__ import annotations

from itertools import count

import pytest
from flask import Flask

from flask_idempotent import idempotent
from flask_idempotent.errors import DatabaseUnavailable
from flask_idempotent.records import ReleasedRecord
from tests.cli.harness import claim, complete, document, name, run, store_of
from tests.stores.harness import lapse
from tests.support.clients import post
from tests.support.transactions import MemoryTransaction, raising


@pytest.fixture
def db(app: Flask) -> MemoryTransaction:
    """The database of the view ``/payments``."""
    db, runs = MemoryTransaction(), count(1)

    @app.post("/payments")
    @idempotent(transaction=db)
    def payments() -> tuple[str, int]:
        db.write("payment")
        return f"run {next(runs)}", 201

    return db


def pay(app: Flask, key: str = "k") -> str:
    return post(app, key, "/payments").text


class TestRelease:
    def test_completed(self, app: Flask, db: MemoryTransaction) -> None:
        """The answer is deleted with the record, so that the next request runs the view."""
        assert [pay(app), pay(app)] == ["run 1", "run 1"]
        assert run(app, "release", "k", "--yes").exit_code == 1
        assert len(db.answers) == 1
        document(app, "release", "k", "--yes", "--even", "completed")
        assert db.answers == {}
        assert pay(app) == "run 2"

    def test_store_has_forgotten(self, app: Flask, db: MemoryTransaction) -> None:
        """A key that the store has forgotten is released in the database alone."""
        pay(app)
        store_of(app).delete([name()])
        refused = run(app, "release", "k", "--yes")
        assert (refused.exit_code, "--even completed" in refused.stderr) == (1, True)
        assert document(app, "release", "k", "--yes", "--even", "completed")["was"] == "completed"
        assert pay(app) == "run 2"
        db.now += 10**9
        store_of(app).delete([name()])
        assert "There is no record" in run(app, "release", "k", "--yes").stderr

    def test_committed_before_crash(self, app: Flask, db: MemoryTransaction) -> None:
        """A claim that has lapsed is completed all the same where its view has committed."""
        pay(app)
        store_of(app).delete([name()])
        lapse(store_of(app), claim(app))
        refused = run(app, "release", "k", "--yes")
        assert (refused.exit_code, "The view has run" in refused.stderr) == (1, True)
        document(app, "release", "k", "--yes", "--even", "completed")
        assert pay(app) == "run 2"

    def test_tombstone(self, app: Flask, db: MemoryTransaction) -> None:
        """A tombstone stays while the answer of its key is deleted."""
        pay(app)
        store_of(app).delete([name()])
        claim(app)
        assert run(app, "release", "k", "--yes", "--even", "running").exit_code == 0
        assert len(db.answers) == 1
        assert "The view has run" in run(app, "release", "k", "--yes").stderr
        assert run(app, "release", "k", "--yes", "--even", "completed").exit_code == 0
        assert isinstance(store_of(app).read(name()), ReleasedRecord)
        assert pay(app) == "run 2"

    def test_database_away(self, app: Flask, db: MemoryTransaction) -> None:
        """A database that does not answer ends a command with 3, and nothing is released."""
        pay(app)
        db.before["look_up"].append(raising(DatabaseUnavailable("it is away")))
        failed = run(app, "release", "k", "--yes", "--even", "completed")
        assert (failed.exit_code, "it is away" in failed.stderr) == (3, True)
        assert pay(app) == "run 1"


class TestPurge:
    def test_deleted_together(self, app: Flask, db: MemoryTransaction) -> None:
        """Answers are deleted with the records of their keys; those of kept claims stay."""
        for key in ("a", "b", "c"):
            pay(app, key)
        complete(app, "without an answer")
        store_of(app).delete([name("c")])
        claim(app, "c")
        assert document(app, "purge", "--all", "--yes") == {"deleted": 3, "running": 1}
        assert list(db.answers) == [name("c")]
        assert pay(app, "a") == "run 4"


class TestPrune:
    def test_expired(self, app: Flask, db: MemoryTransaction) -> None:
        """Expired answers are deleted in batches, and no others."""
        for key in ("a", "b", "c"):
            pay(app, key)
        db.now += 10**9
        pay(app, "d")
        assert run(app, "prune", "--batch", "2").stdout == "Deleted 3 expired answers.\n"
        assert list(db.answers) == [name("d")]
        assert document(app, "prune") == {"deleted": 0}

    def test_nothing_to_prune(self, app: Flask) -> None:
        """Without a transaction there are no answers to delete: the command refuses."""
        refused = run(app, "prune")
        assert (refused.exit_code, "expire by themselves" in refused.stderr) == (1, True)

    def test_each_database_once(self, app: Flask, db: MemoryTransaction) -> None:
        """Views that share a transaction have one database, which is pruned once."""
        app.add_url_rule("/more", view_func=idempotent(transaction=db)(more), methods=["POST"])
        pay(app)
        db.now += 10**9
        assert document(app, "prune") == {"deleted": 1}


def more() -> str:
    return ""
