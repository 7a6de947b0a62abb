"""Functions that decide what follows a crash: ``on_crash=function``."""

from __future__ import annotations

import logging
from itertools import count
from typing import Any

import pytest
from flask import Flask, request

from flask_idempotent import Crash, current_claim
from flask_idempotent.engine.transactions import Answer
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.records import CompletedRecord, ReleasedRecord, RunningRecord
from flask_idempotent.web.state import state_of
from tests.support.clients import Gate, WayIn, post, problem, recorded
from tests.support.engines import without_thread
from tests.support.faulty_store import Clock, FaultyStore, fail
from tests.support.transactions import MemoryTransaction
from tests.support.views import Background


class Payments:
    """A view whose first run dies, and a function that is asked about it.

    :param decisions: what the function returns, or raises, in this order; the last one again.
    :param deaths: how many of the first runs die.
    :param is_async: whether the function is async.
    """

    def __init__(
        self,
        way: WayIn,
        *decisions: object,
        deaths: int = 1,
        is_async: bool = False,
        **settings: Any,
    ) -> None:
        self.store = FaultyStore()
        self.decisions = list(decisions)
        self.crashes: list[Crash] = []
        self.keys: list[str] = []
        settings = {"lease": 30, "timeout": 0} | settings
        function = self.decide_async if is_async else self.decide
        self.app: Flask = way.app(store=self.store, on_crash=function, **settings)
        runs = count(1)

        @self.app.post("/")
        @way
        def pay() -> str:
            self.keys.append(current_claim.key_for("psp"))
            if next(runs) <= deaths:
                raise SystemExit
            return f"attempt {current_claim.attempt}"

    def decide(self, crash: Crash) -> Any:
        self.crashes.append(crash)
        decision = self.decisions.pop(0) if len(self.decisions) > 1 else self.decisions[0]
        if isinstance(decision, BaseException):
            raise decision
        return decision() if callable(decision) else decision

    async def decide_async(self, crash: Crash) -> Any:
        return await self.decide(crash)

    def die(self) -> RunningRecord:
        """Let the first run die, and its lease end; its record."""
        self.store.is_deaf = True
        with pytest.raises(SystemExit):
            post(self.app)
        self.store.is_deaf = False
        self.pass_time(31)
        record = self.record()
        assert isinstance(record, RunningRecord)
        return record

    def pass_time(self, seconds: float) -> None:
        assert isinstance(self.store.clock, Clock)
        self.store.clock.now += seconds

    def record(self) -> object:
        (storage_key,) = self.store.scan("")
        return self.store.read(storage_key)


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
        """The view runs, as the next attempt, and takes one command more than a take-over."""
        payments = Payments(way, "rerun")
        payments.die()
        payments.store.calls.clear()
        with recorded(payments.app) as events:
            assert [post(payments.app).text for _ in range(2)] == ["attempt 2"] * 2
        assert payments.store.calls == ["claim"] * 3 + ["complete", "claim"]
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


class TestHold:
    def test_hold(self, way: WayIn) -> None:
        """Each request gets 409, retryable, with what the lease has left; then one is asked."""
        payments = Payments(way, "hold", "hold", "rerun")
        payments.die()
        for left in (30, 20):
            answer = post(payments.app)
            assert problem(answer) == (409, "outcome-unknown")
            assert answer.json is not None
            assert answer.json["retryable"] is True
            assert int(answer.headers["Retry-After"]) == left
            payments.pass_time(10)
        assert len(payments.crashes) == 1
        payments.pass_time(11)
        assert problem(post(payments.app)) == (409, "outcome-unknown")
        payments.pass_time(31)
        assert post(payments.app).text == "attempt 4"
        assert [crash.attempt for crash in payments.crashes] == [1, 1, 1]
        assert len({(crash.host, crash.pid, crash.started) for crash in payments.crashes}) == 1

    def test_for_hold_for(self, way: WayIn) -> None:
        """A key that nobody asks about is held for ``hold_for``."""
        payments = Payments(way, "hold", hold_for=3600, expire=240)
        payments.die()
        post(payments.app)
        payments.pass_time(3599)
        assert isinstance(payments.record(), RunningRecord)
        payments.pass_time(2)
        assert list(payments.store.scan("")) == []

    @pytest.mark.parametrize("decision", [ValueError("no PSP"), None, 17])
    def test_error(self, way: WayIn, decision: object, caplog: pytest.LogCaptureFixture) -> None:
        """A function that raises, or returns no response, holds the key, and is logged."""
        payments = Payments(way, decision)
        payments.die()
        assert problem(post(payments.app)) == (409, "outcome-unknown")
        assert len(payments.keys) == 1
        (error,) = [r for r in caplog.records if r.levelno == logging.ERROR and r.exc_info]
        assert "on_crash failed, so the key is held: key key…" in error.getMessage()

    def test_interrupted(self, way: WayIn) -> None:
        """A worker that is ended while the function thinks frees nothing: the next is asked."""
        payments = Payments(way, SystemExit(), "hold")
        payments.die()
        worker = without_thread(state_of(payments.app).engine.worker)
        with pytest.raises(SystemExit):
            post(payments.app)
        worker.pending.run()
        payments.pass_time(0.002)
        assert problem(post(payments.app)) == (409, "outcome-unknown")
        assert [crash.attempt for crash in payments.crashes] == [1, 1]

    def test_fingerprint(self, way: WayIn) -> None:
        """The key stays bound to its payload: another one gets 422, and nobody is asked."""
        payments = Payments(way, "hold")
        payments.die()
        assert problem(post(payments.app, data=b"other")) == (422, "key-reused")
        post(payments.app)
        assert problem(post(payments.app, data=b"other")) == (422, "key-reused")
        assert len(payments.crashes) == 1

    def test_store_does_not_take_it(self, way: WayIn) -> None:
        """Where the store fails to note it, the claim is given up later: the next is asked."""
        payments = Payments(way, "hold")
        payments.die()
        worker = without_thread(state_of(payments.app).engine.worker)
        payments.store.before["release"] = [fail(StoreUnavailable("away"))]
        assert problem(post(payments.app)) == (409, "outcome-unknown")
        worker.pending.run()
        assert not isinstance(payments.record(), ReleasedRecord)


class TestWaiters:
    def test_one_is_asked(self, way: WayIn, background: Background) -> None:
        """While one thinks the others wait, and get its response."""
        gate = Gate()

        def think() -> str:
            gate()
            return "decided"

        payments = Payments(way, think, timeout=30)
        payments.die()
        asked = background(post, payments.app)
        gate.reached()
        waiter = background(post, payments.app)
        assert payments.store.listening.acquire(timeout=10)
        gate.open()
        assert [asked.result(10).text, waiter.result(10).text] == ["decided"] * 2
        assert len(payments.crashes) == 1

    def test_hold_wakes_them(self, way: WayIn, background: Background) -> None:
        """When the key is held, those that wait are answered at once."""
        gate = Gate()

        def think() -> str:
            gate()
            return "hold"

        payments = Payments(way, think, timeout=30)
        payments.die()
        asked = background(post, payments.app)
        gate.reached()
        waiter = background(post, payments.app)
        assert payments.store.listening.acquire(timeout=10)
        gate.open()
        assert problem(waiter.result(10)) == problem(asked.result(10)) == (409, "outcome-unknown")

    def test_lease_is_renewed(self, way: WayIn, background: Background) -> None:
        """The lease is renewed while the function thinks."""
        gate = Gate()

        def think() -> str:
            gate()
            return "hold"

        payments = Payments(way, think)
        payments.die()
        worker = without_thread(state_of(payments.app).engine.worker)
        asked = background(post, payments.app)
        gate.reached()
        payments.pass_time(25)
        (claim,) = worker.renewals
        claim.renewed -= 25
        worker.renewals.renew_due()
        payments.pass_time(25)
        assert problem(post(payments.app)) == (409, "in-progress")
        gate.open()
        asked.result(10)


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

    @pytest.mark.parametrize("decision", [("declined", 402), "hold", ValueError()])
    def test_rows_are_discarded(self, way: WayIn, db: MemoryTransaction, decision: object) -> None:
        """What it has written is not committed with an error, nor where the key is held."""

        def decide() -> object:
            db.write("order")
            if isinstance(decision, Exception):
                raise decision
            return decision

        payments = Payments(way, decide, transaction=db)
        payments.die()
        post(payments.app)
        assert (db.rows, len(db.answers)) == ([], isinstance(decision, tuple))

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
