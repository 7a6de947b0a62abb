"""The engine: who runs, who waits, what the others get, and what happens when the store fails."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from flask_idempotent import signals
from flask_idempotent.engine import claimant as module
from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import Mismatch, Replay, Unknown, Waiting
from flask_idempotent.errors import RecordUnreadable, StoreUnavailable, WriteRefused
from flask_idempotent.records import Completed, InProgress
from flask_idempotent.stores.base import Store
from tests.engine.harness import KEY, Clock, Shaky, fail, finish, order
from tests.stores.harness import ENDS, lapse, time_left
from tests.support.polling import until


@pytest.fixture
def real_engine(store: Store) -> Iterator[Engine]:
    engine = Engine(store, "the app")
    yield engine
    engine.close()


@pytest.fixture
def background() -> Iterator[Callable[..., Future[object]]]:
    with ThreadPoolExecutor(64) as pool:
        yield pool.submit


class TestBegin:
    def test_first_runs(self, engine: Engine) -> None:
        """The first request of a key claims it; its owner and attempt are told."""
        claim = engine.begin(order())
        assert isinstance(claim, Claim)
        assert (claim.key, claim.attempt, claim.held) == ("client-key", 1, True)
        assert len(claim.owner) == 32

    def test_later_duplicate_gets_the_response(self, engine: Engine) -> None:
        """C2: after completion every request gets the response, at once."""
        finish(engine, engine.begin(order()))
        replay = engine.begin(order())
        assert isinstance(replay, Replay)
        assert (replay.completed.body, replay.completed.status) == (b"done", 200)
        assert replay.waited == 0

    def test_duplicate_at_once_may_not_wait(self, engine: Engine) -> None:
        """C1: with timeout 0 a duplicate is told at once, with the owner's lease and start."""
        claim = engine.begin(order(lease=2.5))
        waiting = engine.begin(order(timeout=0))
        assert isinstance(claim, Claim)
        assert waiting == Waiting(2.5, 0.0, claim.record.started)

    def test_patience_ends(self, engine: Engine) -> None:
        """C1: a duplicate waits as long as its timeout and overshoots by less than 0.2 s."""
        engine.begin(order())
        started = time.monotonic()
        waiting = engine.begin(order(timeout=0.3))
        assert isinstance(waiting, Waiting)
        assert 0.3 <= time.monotonic() - started < 0.5
        assert waiting.waited >= 0.3

    @pytest.mark.parametrize("state", ["in progress", "completed", "lapsed"])
    def test_other_payload(self, engine: Engine, shaky: Shaky, state: str) -> None:
        """F4: another payload is told so at every state, before anything else."""
        claim = engine.begin(order("one"))
        if state == "completed":
            finish(engine, claim)
        if state == "lapsed":
            lapse(shaky, KEY)
        assert isinstance(engine.begin(order("two")), Mismatch)

    def test_record_outlives_its_lease(self, engine: Engine, shaky: Shaky) -> None:
        """A record is kept for its lease at least, so that a crash is seen as a crash."""
        engine.begin(order(expire=1.0, lease=30.0))
        assert time_left(shaky, KEY) == 30_000

    def test_lapsed_claim_is_taken_over(self, engine: Engine, shaky: Shaky) -> None:
        """After an owner's death the next request runs, as attempt 2, under a new token."""
        first = engine.begin(order())
        lapse(shaky, KEY)
        second = engine.begin(order())
        assert isinstance(first, Claim)
        assert isinstance(second, Claim)
        assert second.attempt == 2
        assert second.owner != first.owner

    def test_number_goes_on_after_a_failure(self, engine: Engine, shaky: Shaky) -> None:
        """After a crash and a take-over that fails, the third run is attempt 3, not 1."""
        engine.begin(order())
        lapse(shaky, KEY)
        second = engine.begin(order())
        assert isinstance(second, Claim)
        engine.release(second, "failed")
        assert time_left(shaky, KEY) == 240_000
        third = engine.begin(order())
        assert isinstance(third, Claim)
        assert third.attempt == 3
        assert shaky.read(KEY) == third.record

    def test_lapsed_claim_is_held(self, engine: Engine, shaky: Shaky) -> None:
        """With on_crash="hold" nobody runs after an owner's death, and nobody waits."""
        engine.begin(order())
        lapse(shaky, KEY)
        assert isinstance(engine.begin(order(takeover=False)), Unknown)

    def test_unreadable_record(self, engine: Engine, shaky: Shaky) -> None:
        """An unreadable record is an error, never a second run."""
        shaky.before["claim"] = [fail(RecordUnreadable("damaged"))]
        with pytest.raises(RecordUnreadable):
            engine.begin(order())

    def test_slow_reply_is_renewed(self, engine: Engine, shaky: Shaky) -> None:
        """A claim whose reply took a third of its lease is renewed before the view runs."""
        shaky.after["claim"] = [lambda: threading.Event().wait(0.05)]
        claim = engine.begin(order(lease=0.12))
        assert isinstance(claim, Claim)
        assert shaky.calls[:2] == ["claim", "renew"]
        assert claim.held

    def test_replies_that_are_always_late(self, engine: Engine, shaky: Shaky) -> None:
        """A store slower than the lease is no store: the request is told so, and does not hang."""
        slow = lambda: threading.Event().wait(0.08)  # noqa: E731
        shaky.after["claim"], shaky.after["renew"] = [slow], [slow] * 3
        with pytest.raises(StoreUnavailable, match="longer to answer than a lease"):
            engine.begin(order(lease=0.06))
        until(lambda: shaky.read(KEY) is None)

    def test_reply_after_the_lease(self, engine: Engine, shaky: Shaky) -> None:
        """A claim that was lost before its reply came is no claim: it is claimed again."""

        def meanwhile() -> None:
            threading.Event().wait(0.05)
            lapse(shaky, KEY)
            other.append(engine.begin(order()))

        other: list[object] = []
        shaky.after["claim"] = [meanwhile]
        outcome = engine.begin(order(lease=0.12, timeout=0))
        assert isinstance(other[0], Claim)
        assert isinstance(outcome, Waiting)

    def test_reply_that_is_always_late(self, engine: Engine, shaky: Shaky) -> None:
        """A store that is always slow is no reason to renew for ever instead of running."""
        shaky.after["claim"] = [lambda: threading.Event().wait(0.05)]
        shaky.after["renew"] = [lambda: threading.Event().wait(0.05)] * 9
        assert isinstance(engine.begin(order(lease=0.12)), Claim)
        assert shaky.calls[:4] == ["claim", "renew", "renew", "renew"]

    def test_reply_that_always_takes_longer_than_the_lease(
        self, engine: Engine, shaky: Shaky
    ) -> None:
        """A store too slow for the lease is told as a failure, and the claim is given back."""
        shaky.after["claim"] = [lambda: threading.Event().wait(0.05)]
        shaky.after["renew"] = [lambda: threading.Event().wait(0.05)] * 9
        with pytest.raises(StoreUnavailable, match="than a lease lasts"):
            engine.begin(order(lease=0.03))
        until(lambda: shaky.read(KEY) is None)


class TestCorrected:
    """C7: a response that says that a request is invalid binds its key to nothing."""

    def test_runs(self, real_engine: Engine) -> None:
        """A corrected request runs, as the next attempt, and its response is the key's."""
        finish(real_engine, real_engine.begin(order("one")), b"no", 422)
        claim = real_engine.begin(order("two"))
        assert isinstance(claim, Claim)
        assert claim.attempt == 2
        finish(real_engine, claim)
        replay = real_engine.begin(order("two"))
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"done"
        assert isinstance(real_engine.begin(order("one")), Mismatch)

    def test_same_request_gets_the_answer(self, engine: Engine) -> None:
        """The same request again gets the answer that it got before."""
        finish(engine, engine.begin(order()), b"no", 422)
        replay = engine.begin(order())
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"no"

    @pytest.mark.parametrize("status", [200, 400, 409])
    def test_other_answers_bind(self, engine: Engine, shaky: Shaky, status: int) -> None:
        """F4: only the statuses that the settings name are those of an invalid request."""
        finish(engine, engine.begin(order("one")), b"done", status)
        before = shaky.read(KEY)
        assert isinstance(engine.begin(order("two")), Mismatch)
        assert shaky.read(KEY) == before

    @pytest.mark.parametrize("other", [{"path": "/refunds"}, {"method": "PUT"}])
    def test_other_operation(self, engine: Engine, other: dict[str, str]) -> None:
        """F5: a request with another path or method corrects nothing."""
        finish(engine, engine.begin(order("one")), b"no", 422)
        changed = order("two", path=other.get("path", "/orders"))
        changed = changed._replace(method=other.get("method", "POST"))
        assert isinstance(engine.begin(changed), Mismatch)

    def test_while_the_first_runs(self, engine: Engine) -> None:
        """F4: while the first request runs, another payload is refused."""
        engine.begin(order("one"))
        assert isinstance(engine.begin(order("two")), Mismatch)

    def test_replaced_payload_is_another_one(self, engine: Engine) -> None:
        """The replaced payload, sent again, is a correction in its turn, or a mismatch."""
        finish(engine, engine.begin(order("one")), b"no", 422)
        second = engine.begin(order("two"))
        assert isinstance(engine.begin(order("one")), Mismatch)
        finish(engine, second, b"no", 422)
        third = engine.begin(order("one"))
        assert isinstance(third, Claim)
        assert third.attempt == 3

    def test_waiter_for_the_old_answer(
        self,
        engine: Engine,
        shaky: Shaky,
        background: Callable[..., Future[object]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Who waits for an answer that was replaced gets 422, and corrects nothing by itself."""
        monkeypatch.setattr(shaky, "_ring", lambda *_: None)
        claim = engine.begin(order("one"))
        waiter = background(engine.begin, order("one"))
        assert shaky.listening.acquire(timeout=5)
        until(lambda: shaky.calls.count("claim") == 3)
        finish(engine, claim, b"no", 422)
        finish(engine, engine.begin(order("two")), b"no", 422)
        assert isinstance(waiter.result(), Mismatch)

    def test_lost_race(self, engine: Engine, shaky: Shaky) -> None:
        """Of two that correct the same answer one runs; the other is refused."""
        finish(engine, engine.begin(order("one")), b"no", 422)
        others: list[object] = []
        shaky.before["claim"] = [
            lambda: None,
            lambda: others.append(engine.begin(order("three"))),
        ]
        assert isinstance(engine.begin(order("two")), Mismatch)
        assert isinstance(others[0], Claim)

    def test_lost_reply(self, engine: Engine, shaky: Shaky) -> None:
        """A correction whose reply was lost is given back; the next one runs."""
        finish(engine, engine.begin(order("one")), b"no", 422)
        shaky.before["claim"] = [lambda: shaky.after.update(claim=[fail(StoreUnavailable("lost"))])]
        shaky.after["claim"] = []
        with pytest.raises(StoreUnavailable):
            engine.begin(order("two"))
        until(lambda: not engine.worker.pending)
        assert isinstance(engine.begin(order("two", timeout=0)), Claim)


class TestWaiting:
    def test_gets_the_response(
        self, real_engine: Engine, background: Callable[..., Future[object]]
    ) -> None:
        """Duplicates of the same moment all get the first one's response."""
        claim = real_engine.begin(order())
        waiters = [background(real_engine.begin, order()) for _ in range(30)]
        until(lambda: real_engine._waiters == 30)
        finish(real_engine, claim)
        for waiter in waiters:
            replay = waiter.result()
            assert isinstance(replay, Replay)
            assert replay.completed.body == b"done"
            assert replay.waited > 0

    def test_one_takes_over(
        self, real_engine: Engine, background: Callable[..., Future[object]]
    ) -> None:
        """When the owner releases, one waiter runs and the others go on waiting for it."""
        first = real_engine.begin(order())
        runs: list[Claim] = []

        def request() -> object:
            outcome = real_engine.begin(order())
            if isinstance(outcome, Claim):
                runs.append(outcome)
                finish(real_engine, outcome, b"second")
                return b"second"
            assert isinstance(outcome, Replay)
            return outcome.completed.body

        waiters = [background(request) for _ in range(20)]
        until(lambda: real_engine._waiters == 20)
        assert isinstance(first, Claim)
        real_engine.release(first, "failed")
        assert {waiter.result() for waiter in waiters} == {b"second"}
        assert len(runs) == 1

    def test_other_payload_after_take_over(
        self, real_engine: Engine, background: Callable[..., Future[object]]
    ) -> None:
        """F4: a fingerprint is compared after waiting too: nobody gets another payload's answer."""
        first = real_engine.begin(order("one"))
        waiter = background(real_engine.begin, order("one"))
        until(lambda: real_engine._waiters == 1)
        assert isinstance(first, Claim)
        store = real_engine.store
        # The key is released and taken by another payload before the waiter looks again.
        record = InProgress(b"o" * 16, b"another payload.")
        store.release(KEY, first.record.owner, **ENDS)
        store.claim(KEY, record, ttl_ms=60_000)
        outcome = waiter.result()
        if isinstance(outcome, Claim):  # The waiter was faster, which is right as well.
            assert isinstance(real_engine.begin(order("two", timeout=0)), Mismatch)
        else:
            assert isinstance(outcome, Mismatch)

    def test_lease_end_wakes(self, clean_valkey: object, store: Store) -> None:
        """A waiter takes over when the lease ends, without waiting for the next poll."""
        dead, alive = Engine(store, None), Engine(store, None)
        try:
            claim = dead.begin(order(lease=0.2))
            assert isinstance(claim, Claim)
            dead.worker.renewals.remove(claim)  # The owner dies: nobody renews.
            started = time.monotonic()
            taken = alive.begin(order())
            assert isinstance(taken, Claim)
            assert taken.attempt == 2
            assert time.monotonic() - started < 0.6
        finally:
            alive.close()
            dead.close()

    def test_hold_ends_the_waiting(self, store: Store) -> None:
        """With on_crash="hold" a waiter is told as soon as the lease ends."""
        dead, alive = Engine(store, None), Engine(store, None)
        try:
            claim = dead.begin(order(lease=0.2))
            assert isinstance(claim, Claim)
            dead.worker.renewals.remove(claim)
            assert isinstance(alive.begin(order(takeover=False)), Unknown)
        finally:
            alive.close()
            dead.close()

    def test_without_pubsub(
        self,
        engine: Engine,
        shaky: Shaky,
        background: Callable[..., Future[object]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A waiter whose wake-up never comes finds the response by looking, within the poll."""
        monkeypatch.setattr(shaky, "_ring", lambda *_: None)
        claim = engine.begin(order())
        waiter = background(engine.begin, order())
        assert shaky.listening.acquire(timeout=5)
        started = time.monotonic()
        finish(engine, claim)
        assert isinstance(waiter.result(), Replay)
        assert time.monotonic() - started < module.POLL_EVERY + 0.2

    def test_one_polls_for_all(
        self,
        engine: Engine,
        shaky: Shaky,
        background: Callable[..., Future[object]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Of the waiters for one key in a process one polls, whichever number they are."""
        monkeypatch.setattr(module, "POLL_EVERY", 0.01)
        claim = engine.begin(order())
        waiters = [background(engine.begin, order(timeout=60)) for _ in range(10)]
        until(lambda: shaky.calls.count("claim") >= 1 + 2 * len(waiters))
        shaky.asked_by.clear()
        until(lambda: len(shaky.asked_by) >= 10)
        assert len(set(shaky.asked_by)) == 1
        finish(engine, claim)
        assert all(isinstance(waiter.result(), Replay) for waiter in waiters)

    @pytest.mark.parametrize("left", ["its time is over", "it takes over"])
    def test_next_one_polls(
        self,
        engine: Engine,
        shaky: Shaky,
        background: Callable[..., Future[object]],
        monkeypatch: pytest.MonkeyPatch,
        left: str,
    ) -> None:
        """When the one that polled is gone, the next one polls: nobody misses the response."""
        monkeypatch.setattr(module, "POLL_EVERY", 0.05)
        monkeypatch.setattr(shaky, "_ring", lambda *_: None)
        claim = engine.begin(order())
        first = background(engine.begin, order(timeout=0.3 if left == "its time is over" else 60))
        assert shaky.listening.acquire(timeout=5)
        others = [background(engine.begin, order(timeout=60)) for _ in range(3)]
        until(lambda: engine._waiters == 4)
        if left == "it takes over":
            assert isinstance(claim, Claim)
            engine.release(claim, "failed")
            claim = first.result()
        else:
            assert isinstance(first.result(), Waiting)
        finish(engine, claim)
        assert all(isinstance(other.result(), Replay) for other in others)

    @pytest.mark.parametrize("limit", [0, 2])
    def test_limit(
        self, shaky: Shaky, background: Callable[..., Future[object]], limit: int
    ) -> None:
        """Past max_waiters a duplicate is told at once; 0 lets nobody wait."""
        engine = Engine(shaky, None, max_waiters=limit)
        claim = engine.begin(order())
        waiters = [background(engine.begin, order()) for _ in range(limit)]
        until(lambda: engine._waiters == limit)
        refused = engine.begin(order())
        assert isinstance(refused, Waiting)
        assert refused.waited == 0
        finish(engine, claim)
        assert all(isinstance(waiter.result(), Replay) for waiter in waiters)
        engine.close()

    def test_store_comes_back(self, engine: Engine, shaky: Shaky) -> None:
        """A waiter whose store fails goes on, and gets the response when the store is back."""
        claim = engine.begin(order())
        shaky.before["claim"] = [
            lambda: None,
            fail(StoreUnavailable("down")),
            lambda: finish(engine, claim),
        ]
        assert isinstance(engine.begin(order()), Replay)

    def test_store_stays_away(
        self, engine: Engine, shaky: Shaky, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A waiter whose store stays away is told so by its own timeout."""
        monkeypatch.setattr(module, "POLL_EVERY", 0.01)
        engine.begin(order())
        shaky.before["claim"] = [lambda: None] + [fail(StoreUnavailable("down"))] * 1000
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            engine.begin(order(timeout=0.2))
        assert 0.2 <= time.monotonic() - started < 0.4
        shaky.before.clear()

    def test_store_that_fails_is_not_pestered(self, engine: Engine, shaky: Shaky) -> None:
        """A waiter whose store fails looks once a second, however soon the lease it saw ends."""
        engine.begin(order(lease=0.02))
        engine.worker.renewals._claims.clear()
        shaky.before["claim"] = [lambda: None] + [fail(StoreUnavailable("down"))] * 1000
        with pytest.raises(StoreUnavailable):
            engine.begin(order(timeout=0.3))
        assert shaky.calls.count("claim") < 5
        shaky.before.clear()

    def test_last_look_at_a_silent_store_begins_in_time(
        self, engine: Engine, shaky: Shaky, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No request hangs past its timeout because its last look at a silent store takes long."""
        monkeypatch.setattr(module, "POLL_EVERY", 0.1)
        monkeypatch.setattr(module, "_TOLD_WITHIN", 0.3)

        def silence() -> None:
            threading.Event().wait(0.25)
            raise StoreUnavailable("silent")

        engine.begin(order())
        shaky.before["claim"] = [lambda: None, lambda: None] + [silence] * 100
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            engine.begin(order(timeout=0.8))
        assert 0.8 <= time.monotonic() - started < 0.9
        shaky.before.clear()


class TestCircumstances:
    def test_wall_clock_may_leap(
        self,
        real_engine: Engine,
        background: Callable[..., Future[object]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Leases, waits and renewals do not care what time people say it is."""
        days = itertools.cycle([0, 86_400, -86_400])
        monkeypatch.setattr(time, "time", lambda: 1e9 + next(days))
        claim = real_engine.begin(order(lease=30.0))
        assert isinstance(claim, Claim)
        started = time.monotonic()
        assert isinstance(real_engine.begin(order(timeout=0.3)), Waiting)
        assert 0.3 <= time.monotonic() - started < 0.6
        assert claim.renewed == claim.sent
        waiter = background(real_engine.begin, order())
        until(lambda: real_engine._waiters == 1)
        finish(real_engine, claim)
        assert isinstance(waiter.result(), Replay)

    def test_no_event_loop(
        self,
        real_engine: Engine,
        background: Callable[..., Future[object]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Nobody runs, waits or is answered by an event loop, of which gevent may have its own."""
        monkeypatch.setattr(asyncio, "new_event_loop", fail(RuntimeError("an event loop")))
        monkeypatch.setattr(asyncio.events, "new_event_loop", fail(RuntimeError("an event loop")))
        claim = real_engine.begin(order())
        waiter = background(real_engine.begin, order())
        until(lambda: real_engine._waiters == 1)
        finish(real_engine, claim)
        assert isinstance(waiter.result(), Replay)


class TestUnknownClaim:
    def test_is_given_back(self, engine: Engine, shaky: Shaky) -> None:
        """A claim whose reply never came is released, so that nobody blocks the retry."""
        shaky.after["claim"] = [fail(StoreUnavailable("reply lost", sent=True))]
        with pytest.raises(StoreUnavailable):
            engine.begin(order())
        until(lambda: shaky.read(KEY) is None)
        assert isinstance(engine.begin(order(timeout=0)), Claim)

    def test_not_sent_needs_nothing(self, engine: Engine, shaky: Shaky) -> None:
        """A claim that never left needs no release: an outage piles up no work."""
        shaky.before["claim"] = [fail(StoreUnavailable("refused", sent=False))]
        with pytest.raises(StoreUnavailable):
            engine.begin(order())
        assert not engine.worker.pending

    def test_interrupted(self, engine: Engine, shaky: Shaky) -> None:
        """A worker's timeout in the middle of a claim leaves nothing behind."""
        shaky.after["claim"] = [fail(KeyboardInterrupt())]  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            engine.begin(order())
        until(lambda: shaky.read(KEY) is None)


class TestAbandon:
    def test_gives_the_key_back(self, engine: Engine, shaky: Shaky) -> None:
        """A claim whose view will not run is released in the background, and renewed no more."""
        claim = engine.begin(order())
        assert isinstance(claim, Claim)
        engine.abandon(claim)
        assert not engine.worker.renewals
        until(lambda: shaky.read(KEY) is None)
        engine.abandon(claim)
        assert not engine.worker.pending

    def test_waits_for_a_renewal(self, threadless: Engine, shaky: Shaky) -> None:
        """A renewal that is under way does not put back what is given up."""
        claim = threadless.begin(order())
        assert isinstance(claim, Claim)
        threadless.abandon(claim)
        (task,) = threadless.worker.pending._writes
        with ThreadPoolExecutor() as pool:
            with claim.lock:
                giving = pool.submit(task.run)
                with pytest.raises(TimeoutError):
                    giving.result(0.05)
                assert shaky.read(KEY) is not None
            giving.result(5)
        assert shaky.read(KEY) is None


class TestComplete:
    def test_is_told(self, engine: Engine) -> None:
        """A stored response is told by a signal."""
        told: list[dict[str, Any]] = []
        with signals.completed.connected_to(lambda sender, **data: told.append(data)):
            finish(engine, engine.begin(order()))
        assert 0 <= told[0].pop("seconds") < 10
        assert told == [{"key": "client-key", "storage_key": KEY, "status": 200, "kept": True}]

    def test_stored_later(self, engine: Engine, shaky: Shaky) -> None:
        """A response that the store did not take is stored as soon as it does; no second run."""
        claim = engine.begin(order())
        shaky.before["complete"] = [fail(StoreUnavailable("down"))]
        finish(engine, claim)
        until(lambda: not engine.worker.pending)
        assert isinstance(engine.begin(order()), Replay)
        assert shaky.calls.count("complete") == 2

    def test_stored_before_the_next_claim(self, threadless: Engine, shaky: Shaky) -> None:
        """Before a new claim of this process it is tried again."""
        claim = threadless.begin(order())
        shaky.before["complete"] = [fail(WriteRefused("out of memory"))]
        finish(threadless, claim)
        assert isinstance(threadless.begin(order(timeout=0)), Replay)

    def test_other_keys_are_not_held_up(self, threadless: Engine, shaky: Shaky) -> None:
        """A response that the store never takes costs its own key's requests, and no others."""
        claim = threadless.begin(order())
        shaky.before["complete"] = [fail(StoreUnavailable("connection broke"))] * 2
        finish(threadless, claim)
        assert isinstance(threadless.begin(order(key="IDEMPOTENT_{another}")), Claim)
        with pytest.raises(StoreUnavailable):
            threadless.begin(order())
        assert isinstance(threadless.begin(order()), Replay)

    def test_stored_when_the_process_leaves(self, threadless: Engine, shaky: Shaky) -> None:
        """A process that leaves in good order tries once more."""
        claim = threadless.begin(order())
        shaky.before["complete"] = [fail(StoreUnavailable("down"))]
        finish(threadless, claim)
        stored: list[str] = []
        shaky.before["complete"] = [lambda: stored.append("tried")]
        threadless.close()
        assert stored == ["tried"]

    def test_lost_at_the_end(
        self, threadless: Engine, shaky: Shaky, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A response that the store never took is logged as lost when the process ends."""
        claim = threadless.begin(order())
        shaky.before["complete"] = [fail(StoreUnavailable("down"))] * 3
        finish(threadless, claim)
        threadless.close()
        assert f"is lost: record {KEY}: the process ends" in caplog.text

    def test_lost_after_expire(
        self, threadless: Engine, shaky: Shaky, caplog: pytest.LogCaptureFixture
    ) -> None:
        """After expire it is logged as lost, and its claim is not kept any longer."""
        claim = threadless.begin(order(expire=0.01))
        shaky.before["complete"] = [fail(StoreUnavailable("down"))] * 2
        finish(threadless, claim)
        threading.Event().wait(0.02)
        threadless.worker.pending.run()
        assert not threadless.worker.pending
        assert not threadless.worker.renewals
        assert "is lost" in caplog.text

    def test_later_needs_no_lock(self, engine: Engine, shaky: Shaky) -> None:
        """A destructor may settle a claim in the midst of anything: it waits for no lock."""
        claim = engine.begin(order())
        assert isinstance(claim, Claim)
        with claim.lock, engine.worker._starting, engine.worker.pending._running, shaky._lock:
            engine.complete_later(claim, 200, (), None)
        until(lambda: claim.settled)
        replay = engine.begin(order())
        assert isinstance(replay, Replay)
        assert replay.completed.body is None

    def test_late_owner(self, engine: Engine, shaky: Shaky) -> None:
        """A late owner's response overwrites nothing, and the lost lease is told."""
        told: list[dict[str, object]] = []
        first = engine.begin(order())
        lapse(shaky, KEY)
        second = engine.begin(order())
        with signals.lease_lost.connected_to(lambda sender, **data: told.append(data)):
            finish(engine, first, b"late")
        assert isinstance(first, Claim)
        assert not first.held
        assert told == [
            {"key": "client-key", "storage_key": KEY, "owner": first.owner, "attempt": 1}
        ]
        finish(engine, second, b"in time")
        replay = engine.begin(order())
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"in time"

    def test_late_owner_whose_successor_fails(self, engine: Engine, shaky: Shaky) -> None:
        """A late owner's response is used when its successor fails: there is no third run."""
        first = engine.begin(order())
        lapse(shaky, KEY)
        second = engine.begin(order())
        finish(engine, first, b"late")
        assert isinstance(second, Claim)
        engine.release(second, "failed")
        replay = engine.begin(order())
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"late"

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_interrupted(self, engine: Engine, shaky: Shaky, moment: str) -> None:
        """A worker's timeout while a response is being stored leaves it to the background."""
        claim = engine.begin(order())
        getattr(shaky, moment)["complete"] = [fail(SystemExit())]  # type: ignore[arg-type]
        with pytest.raises(SystemExit):
            finish(engine, claim)
        until(lambda: isinstance(shaky.read(KEY), Completed) and not engine.worker.renewals)
        replay = engine.begin(order())
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"done"

    def test_once(self, engine: Engine, shaky: Shaky) -> None:
        """A claim is settled once: what comes after is nothing."""
        claim = engine.begin(order())
        finish(engine, claim, b"first")
        finish(engine, claim, b"second")
        assert isinstance(claim, Claim)
        engine.release(claim, "failed")
        replay = engine.begin(order())
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"first"
        assert shaky.calls.count("complete") == 1

    def test_first_answer_stands(self, threadless: Engine, shaky: Shaky) -> None:
        """What comes later takes no answer's place, not even one's that is still to be stored."""
        claim = threadless.begin(order())
        shaky.before["complete"] = [fail(StoreUnavailable("down"))] * 2
        finish(threadless, claim, b"first")
        assert isinstance(claim, Claim)
        threadless.complete_later(claim, 500, (), None)
        with pytest.raises(StoreUnavailable):
            threadless.worker.pending.run()
        threadless.worker.pending.run()
        replay = threadless.begin(order())
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"first"


class TestRelease:
    def test_is_told(self, engine: Engine) -> None:
        """A released claim is told by a signal, with its reason."""
        told: list[dict[str, object]] = []
        claim = engine.begin(order())
        assert isinstance(claim, Claim)
        with signals.released.connected_to(lambda sender, **data: told.append(data)):
            engine.release(claim, "not-stored")
        assert told == [{"key": "client-key", "storage_key": KEY, "reason": "not-stored"}]
        assert isinstance(engine.begin(order(timeout=0)), Claim)

    def test_later(self, engine: Engine, shaky: Shaky) -> None:
        """A release that the store did not take is tried again, and not renewed meanwhile."""
        claim = engine.begin(order())
        assert isinstance(claim, Claim)
        shaky.before["release"] = [fail(StoreUnavailable("down"))]
        engine.release(claim, "failed")
        assert not engine.worker.renewals
        until(lambda: shaky.read(KEY) is None)

    def test_interrupted(self, engine: Engine, shaky: Shaky) -> None:
        """A worker's timeout while a claim is being released leaves it to the background."""
        claim = engine.begin(order())
        assert isinstance(claim, Claim)
        shaky.before["release"] = [fail(SystemExit())]  # type: ignore[arg-type]
        with pytest.raises(SystemExit):
            engine.release(claim, "failed")
        assert not engine.worker.renewals
        until(lambda: shaky.read(KEY) is None)


class TestProcesses:
    @pytest.mark.parametrize("step", ["complete", "complete later", "release"])
    def test_child_owns_nothing_of_its_parents(self, engine: Engine, step: str) -> None:
        """After a fork inside a view, the child settles no claim of its parent."""
        claim = engine.begin(order())
        assert isinstance(claim, Claim)
        claim.pid = os.getpid() + 1
        if step == "complete":
            finish(engine, claim)
        elif step == "complete later":
            engine.complete_later(claim, 200, (), b"done")
            engine.worker.pending.run()
        else:
            engine.release(claim, "failed")
        assert isinstance(engine.store.read(KEY), InProgress)

    def test_engine_closes_with_its_last_user(self) -> None:
        """An engine that nobody uses any more ends its thread by itself."""
        shaky = Shaky(Clock())
        engine = Engine(shaky, None)
        engine.begin(order())
        (thread,) = [t for t in threading.enumerate() if t.name == "flask-idempotent-worker"]
        del engine
        thread.join(5)
        assert not thread.is_alive()
