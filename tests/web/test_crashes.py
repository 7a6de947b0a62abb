"""Functions that decide what follows a crash: ``on_crash=function``."""

from __future__ import annotations

import pytest
from flask import request

from flask_idempotent import Crash, current_claim
from flask_idempotent.engine.transactions import Answer
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.records import CompletedRecord
from flask_idempotent.web.state import state_of
from tests.support.clients import WayIn, post, problem, recorded
from tests.support.faulty_store import fail
from tests.support.payments import Payments
from tests.support.transactions import MemoryTransaction


class TestAsked:
    def test_what_is_known(self, way: WayIn) -> None:
        """The function hears of the run that died: key, record, attempt, start, host, process."""
        payments = Payments(way, "rerun")
        dead = payments.die()
        post(payments.app)
        (crash,) = payments.crashes
        (storage_key,) = payments.store.scan("")
        assert crash == Crash(
            "key-one", storage_key, attempt=1, started=dead.started, host=dead.host, pid=dead.pid
        )
        assert "key-one" not in repr(crash)

    def test_inside_the_request(self, way: WayIn) -> None:
        """The request, its body and ``current_claim`` are there, with the dead run's keys."""
        seen: list[object] = []

        def look() -> str:
            seen.append((request.get_data(), current_claim.attempt, current_claim.key_for("psp")))
            return "hold"

        payments = Payments(way, look)
        payments.store.is_deaf = True
        with pytest.raises(SystemExit):
            post(payments.app, data=b"body")
        payments.store.is_deaf = False
        payments.pass_time(31)
        post(payments.app, data=b"body")
        assert seen == [(b"body", 2, payments.keys[0])]

    def test_not_without_a_crash(self, way: WayIn) -> None:
        """Nobody is asked where the first run fails, or still runs."""
        payments = Payments(way, "hold")
        with pytest.raises(SystemExit):
            post(payments.app)
        assert post(payments.app).text == "attempt 1"
        assert payments.crashes == []

    def test_async_function(self, way: WayIn) -> None:
        """A function may be async."""

        async def decide() -> str:
            return "by a coroutine"

        payments = Payments(way, decide, is_async=True)
        payments.die()
        assert post(payments.app).text == "by a coroutine"


class TestRerun:
    def test_rerun(self, way: WayIn) -> None:
        """The view runs, as the next attempt, and takes two commands more than a take-over."""
        payments = Payments(way, "rerun")
        payments.die()
        payments.store.calls.clear()
        with recorded(payments.app) as events:
            assert [post(payments.app).text for _ in range(2)] == ["attempt 2"] * 2
        calls = ["claim", "claim", "read_steps", "claim", "complete", "claim"]
        assert payments.store.calls == calls
        claimed = [data for name, data in events if name == "claimed"]
        assert [(data["attempt"], data["took_over"]) for data in claimed] == [(2, True)]

    def test_second_crash(self, way: WayIn) -> None:
        """Where the new run dies too, the next function hears of that one."""
        payments = Payments(way, "rerun", deaths=2)
        payments.die()
        payments.die()
        post(payments.app)
        assert [crash.attempt for crash in payments.crashes] == [1, 2]

    def test_dead_owner_was_only_late(self, way: WayIn) -> None:
        """A late owner's response that comes while the function thinks is the answer."""
        payments = Payments(way, "hold")
        dead = payments.die()

        def answer_late() -> str:
            late = CompletedRecord(dead.owner, dead.fingerprint, 1, 201, (), b"late", 1.0)
            payments.store.complete(*payments.store.scan(""), late, ttl_ms=1000)
            return "rerun"

        payments.decisions = [answer_late]
        assert post(payments.app).text == "late"
        assert len(payments.keys) == 1

    def test_store_fails(self, way: WayIn) -> None:
        """Where the store fails before the run, the answer is 503 and the next one is asked."""
        payments = Payments(way, "rerun")
        payments.die()

        def break_store() -> str:
            payments.store.before["claim"] = [fail(StoreUnavailable("away"))]
            return "rerun"

        payments.decisions = [break_store, "rerun"]
        assert problem(post(payments.app)) == (503, "store-unavailable")
        state_of(payments.app).engine.worker.pending.run()
        assert post(payments.app).text.startswith("attempt")
        assert [crash.attempt for crash in payments.crashes] == [1, 1]


class TestResponse:
    @pytest.mark.parametrize("decision", ["done", ("done", 503), ({"a": 1}, 201, {"X-A": "b"})])
    def test_response(self, way: WayIn, decision: object) -> None:
        """What a view may return completes the record, whatever ``store_if`` says of it."""
        payments = Payments(way, decision)
        payments.die()
        with recorded(payments.app) as events:
            first, second = post(payments.app), post(payments.app)
        assert (first.status, first.data) == (second.status, second.data)
        assert first.headers.get("X-A") == second.headers.get("X-A")
        assert "Idempotent-Replayed" not in first.headers
        assert second.headers["Idempotent-Replayed"] == "true"
        assert [name for name, _ in events] == ["completed", "replayed"]
        assert len(payments.keys) == len(payments.crashes) == 1


class TestTransaction:
    @pytest.fixture
    def db(self) -> MemoryTransaction:
        return MemoryTransaction()

    def test_row_is_looked_up_first(self, way: WayIn, db: MemoryTransaction) -> None:
        """Where the run that died has committed, nobody is asked."""
        payments = Payments(way, "hold", transaction=db)
        dead = payments.die()
        (storage_key,) = payments.store.scan("")
        committed = CompletedRecord(dead.owner, dead.fingerprint, 1, 200, (), b"committed", 1.0)
        db.answers[storage_key] = Answer(storage_key, committed, 10**6)
        assert post(payments.app).text == "committed"
        assert payments.crashes == []

    def test_rerun(self, way: WayIn, db: MemoryTransaction) -> None:
        """A view that runs after a decision has a transaction of its own."""
        payments = Payments(way, "rerun", transaction=db)
        payments.die()
        assert [post(payments.app).text for _ in range(2)] == ["attempt 2"] * 2
        assert len(db.answers) == 1

    def test_response_gets_a_row(self, way: WayIn, db: MemoryTransaction) -> None:
        """A response is committed, together with what the function has written."""

        def decide() -> str:
            db.write("order")
            return "decided"

        payments = Payments(way, decide, transaction=db)
        payments.die()
        assert post(payments.app).text == "decided"
        payments.store.delete(payments.store.scan(""))
        assert post(payments.app).text == "decided"
        assert (db.rows, len(db.answers)) == (["order"], 1)

    @pytest.mark.parametrize(
        ("decision", "answers"), [(("declined", 402), 1), ("rerun", 1), ("hold", 0), (OSError(), 0)]
    )
    def test_rows_are_discarded(
        self, way: WayIn, db: MemoryTransaction, decision: object, answers: int
    ) -> None:
        """What it has written is committed neither with an error, nor with the view's own rows, nor
        where the key is held."""

        def decide() -> object:
            db.write("order")
            if isinstance(decision, Exception):
                raise decision
            return decision

        payments = Payments(way, decide, transaction=db)
        payments.die()
        post(payments.app)
        assert (db.rows, len(db.answers)) == ([], answers)
        assert "roll_back" in db.calls[db.calls.index("begin") :]

    def test_committed_meanwhile(self, way: WayIn, db: MemoryTransaction) -> None:
        """A late owner that commits while the function thinks has the last word."""
        payments = Payments(way, "hold", transaction=db)
        dead = payments.die()
        (storage_key,) = payments.store.scan("")
        committed = CompletedRecord(dead.owner, dead.fingerprint, 1, 200, (), b"committed", 1.0)

        def decide() -> str:
            db.answers[storage_key] = Answer(storage_key, committed, 10**6)
            return "decided"

        payments.decisions = [decide]
        assert [post(payments.app).text for _ in range(2)] == ["committed"] * 2
