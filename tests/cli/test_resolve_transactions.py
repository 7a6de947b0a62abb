"""The command resolve for views with transaction=: the answers that their databases keep."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_idempotent import idempotent
from flask_idempotent.engine.transactions import Answer
from flask_idempotent.records import RunningRecord
from tests.cli.harness import (
    RESOLVE,
    claim,
    die,
    document,
    name,
    run,
    store_of,
    stored,
)
from tests.stores.harness import HOUR, answer
from tests.support.transactions import MemoryTransaction


class TestTransaction:
    """The answers that the databases of transactions keep."""

    @pytest.fixture
    def db(self, app: Flask) -> MemoryTransaction:
        db = MemoryTransaction()
        app.view_functions["orders"] = idempotent(transaction=db)(lambda: "placed")
        return db

    def test_row(self, app: Flask, db: MemoryTransaction) -> None:
        """The answer gets a row, so that a late owner cannot commit."""
        die(app)
        document(app, *RESOLVE, "--body", "by hand")
        kept = db.look_up(name())
        assert kept is not None
        assert kept.record == stored(app)

    def test_expired_row(self, app: Flask, db: MemoryTransaction) -> None:
        """A row that has expired is replaced."""
        die(app)
        document(app, *RESOLVE)
        db.now += 10**9
        store_of(app).delete([name()])
        die(app)
        document(app, "resolve", "k", "--yes", "--status", "200")
        kept = db.look_up(name())
        assert kept is not None
        assert kept.record.status == 200

    def test_committed(self, app: Flask, db: MemoryTransaction) -> None:
        """Where the view has committed there is nothing to resolve."""
        die(app)
        document(app, *RESOLVE)
        store_of(app).delete([name()])
        die(app)
        refused = run(app, *RESOLVE)
        assert (refused.exit_code, "The view has committed" in refused.stderr) == (1, True)

    def test_commits_meanwhile(self, app: Flask, db: MemoryTransaction) -> None:
        """A row that comes at the last moment stays, and nothing is stored."""
        die(app)
        theirs = Answer(name(), answer("ada"), HOUR)
        db.before["commit"].append(lambda: db.answers.update({name(): theirs}))
        refused = run(app, *RESOLVE)
        assert (refused.exit_code, "committed meanwhile" in refused.stderr) == (1, True)
        assert isinstance(store_of(app).read(name()), RunningRecord)

    def test_changed_meanwhile(
        self, app: Flask, db: MemoryTransaction, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The row decides: a claim that was taken over meanwhile changes nothing."""
        die(app, "ada")
        monkeypatch.setattr(
            "flask_idempotent.cli.resolve.confirm", lambda *_, **__: claim(app, owner="bob")
        )
        assert document(app, *RESOLVE)["status"] == 201
        kept = db.look_up(name())
        assert kept is not None
        assert kept.record.status == 201

    def test_commits_during_question(
        self, app: Flask, db: MemoryTransaction, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A row that comes while the operator is asked stays, and nothing is stored."""
        die(app)
        theirs = Answer(name(), answer("ada"), HOUR)
        monkeypatch.setattr(
            "flask_idempotent.cli.resolve.confirm",
            lambda *_, **__: db.answers.update({name(): theirs}),
        )
        refused = run(app, *RESOLVE)
        assert (refused.exit_code, "committed meanwhile" in refused.stderr) == (1, True)
        assert db.answers == {name(): theirs}
        assert isinstance(store_of(app).read(name()), RunningRecord)
