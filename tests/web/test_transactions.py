"""Transactions: what a view writes is committed together with its answer, once for each key."""

from __future__ import annotations

from itertools import count

import pytest

from tests.support.clients import WayIn, post, problem, recorded
from tests.support.faulty_store import FaultyStore
from tests.support.transactions import MemoryTransaction


@pytest.fixture
def db() -> MemoryTransaction:
    """The view's own database."""
    return MemoryTransaction()


class TestFirst:
    def test_committed_together(self, way: WayIn, db: MemoryTransaction) -> None:
        """Rows and answer are committed in one transaction, and the duplicate gets a replay."""
        app, runs = way.app(transaction=db), count(1)

        @app.post("/")
        @way
        def view() -> tuple[str, int]:
            db.write("order")
            return f"run {next(runs)}", 201

        with recorded(app) as events:
            assert [post(app).text for _ in range(2)] == ["run 1"] * 2
        assert db.rows == ["order"]
        (answer,) = db.answers.values()
        assert (answer.record.status, answer.record.body) == (201, b"run 1")
        assert db.calls == ["look_up", "begin", "commit"]
        assert [name for name, _ in events] == ["claimed", "completed", "replayed"]

    def test_store_forgets(self, way: WayIn, db: MemoryTransaction) -> None:
        """A store that has forgotten a key gets its answer from the database, and nothing runs."""
        store = FaultyStore()
        app, runs = way.app(transaction=db, store=store), count(1)

        @app.post("/")
        @way
        def view() -> str:
            db.write("order")
            return f"run {next(runs)}"

        post(app)
        store.delete(store.scan(""))
        db.now += 40_000
        answer = post(app)
        assert answer.text == "run 1"
        assert answer.headers["Idempotent-Replayed"] == "true"
        assert post(app).text == "run 1"
        assert db.rows == ["order"]
        store.delete(store.scan(""))
        assert problem(post(app, data=b"other")) == (422, "key-reused")

    def test_no_key(self, way: WayIn, db: MemoryTransaction) -> None:
        """A request without a key is committed by the library too."""
        app = way.app(transaction=db)

        @app.post("/")
        @way
        def view() -> str:
            db.write("order")
            return "yes"

        assert post(app, None).text == "yes"
        assert db.rows == ["order"]
