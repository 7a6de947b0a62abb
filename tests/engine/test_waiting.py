"""Waiting: who is woken, who polls, and when waiting ends."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from flask_idempotent import _timing
from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import (
    FingerprintMismatch,
    OutcomeUnknown,
    Replay,
    StillRunning,
)
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.records import RunningRecord
from flask_idempotent.stores.base import Store
from tests.stores.harness import ENDS
from tests.support.engines import KEY, claimed, finish, request
from tests.support.faulty_store import FaultyStore, fail
from tests.support.pauses import within
from tests.support.polling import until


class TestWaiting:
    def test_gets_the_response(
        self, real_engine: Engine, background: Callable[..., Future[object]]
    ) -> None:
        """All duplicates that wait get the first request's response."""
        claim = real_engine.claim(request())
        waiters = [background(real_engine.claim, request()) for _ in range(30)]
        until(lambda: real_engine.waiters == 30)
        finish(real_engine, claim)
        for waiter in waiters:
            replay = waiter.result()
            assert isinstance(replay, Replay)
            assert replay.completed.body == b"done"
            assert replay.waited > 0

    def test_one_takes_over(
        self, real_engine: Engine, background: Callable[..., Future[object]]
    ) -> None:
        """When the owner releases, one waiter runs and the others wait for it."""
        first = real_engine.claim(request())
        runs: list[Claim] = []

        def wait() -> object:
            outcome = real_engine.claim(request())
            if isinstance(outcome, Claim):
                runs.append(outcome)
                finish(real_engine, outcome, b"second")
                return b"second"
            assert isinstance(outcome, Replay)
            return outcome.completed.body

        waiters = [background(wait) for _ in range(20)]
        until(lambda: real_engine.waiters == 20)
        assert isinstance(first, Claim)
        real_engine.release(first, "failed")
        assert {waiter.result() for waiter in waiters} == {b"second"}
        assert len(runs) == 1

    def test_other_payload_after_take_over(
        self, real_engine: Engine, background: Callable[..., Future[object]]
    ) -> None:
        """F4: a fingerprint is compared after waiting too: nobody gets another payload's answer."""
        first = real_engine.claim(request("one"))
        waiter = background(real_engine.claim, request("one"))
        until(lambda: real_engine.waiters == 1)
        assert isinstance(first, Claim)
        store = real_engine.store
        # The key is released and taken by another payload before the waiter looks again.
        record = RunningRecord(b"o" * 16, b"another payload.")
        store.release(KEY, first.record.owner, **ENDS)
        store.claim(KEY, record, ttl_ms=60_000)
        outcome = waiter.result()
        if isinstance(outcome, Claim):  # The waiter was faster, which is right as well.
            assert isinstance(real_engine.claim(request("two", timeout=0)), FingerprintMismatch)
        else:
            assert isinstance(outcome, FingerprintMismatch)

    def test_lease_end_wakes(self, clean_valkey: object, store: Store) -> None:
        """A waiter takes over when the lease ends, without waiting for the next poll."""
        dead, alive = Engine(store, None), Engine(store, None)
        try:
            claim = claimed(dead, lease=0.2)
            dead.worker.renewals.remove(claim)  # The owner dies: nobody renews.
            with within(0.6):
                taken = claimed(alive)
                assert taken.attempt == 2
        finally:
            alive.close()
            dead.close()

    def test_hold_ends_the_waiting(self, store: Store) -> None:
        """With on_crash="hold" waiting ends as soon as the lease ends."""
        dead, alive = Engine(store, None), Engine(store, None)
        try:
            claim = claimed(dead, lease=0.2)
            dead.worker.renewals.remove(claim)
            assert isinstance(alive.claim(request(takeover=False)), OutcomeUnknown)
        finally:
            alive.close()
            dead.close()

    def test_without_pubsub(
        self,
        engine: Engine,
        faulty: FaultyStore,
        background: Callable[..., Future[object]],
    ) -> None:
        """A waiter that is never woken finds the response at its next poll."""
        faulty.is_silent = True
        claim = engine.claim(request())
        waiter = background(engine.claim, request())
        assert faulty.listening.acquire(timeout=5)
        with within(_timing.POLL_EVERY + 0.2):
            finish(engine, claim)
            assert isinstance(waiter.result(), Replay)

    def test_one_polls_for_all(
        self,
        engine: Engine,
        faulty: FaultyStore,
        background: Callable[..., Future[object]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """One of the waiters for a key polls for all waiters of the process."""
        monkeypatch.setattr(_timing, "POLL_EVERY", 0.01)
        claim = engine.claim(request())
        waiters = [background(engine.claim, request(timeout=60)) for _ in range(10)]

        def all_wait() -> bool:
            # Each claims, and contends once it listens.
            polls = Counter(faulty.asked_by)
            return sum(number >= 2 for number in polls.values()) == len(waiters)

        until(all_wait)
        faulty.asked_by.clear()
        until(lambda: len(faulty.asked_by) >= 10)
        assert len(set(faulty.asked_by)) == 1
        finish(engine, claim)
        assert all(isinstance(waiter.result(), Replay) for waiter in waiters)

    @pytest.mark.parametrize("left", ["its time is over", "it takes over"])
    def test_next_one_polls(
        self,
        engine: Engine,
        faulty: FaultyStore,
        background: Callable[..., Future[object]],
        monkeypatch: pytest.MonkeyPatch,
        left: str,
    ) -> None:
        """When the waiter that polls leaves, the next one polls, and nobody misses the response."""
        monkeypatch.setattr(_timing, "POLL_EVERY", 0.05)
        faulty.is_silent = True
        claim = engine.claim(request())
        first = background(engine.claim, request(timeout=0.3 if left == "its time is over" else 60))
        assert faulty.listening.acquire(timeout=5)
        others = [background(engine.claim, request(timeout=60)) for _ in range(3)]
        for _ in others:
            assert faulty.listening.acquire(timeout=10)
        if left == "it takes over":
            assert isinstance(claim, Claim)
            engine.release(claim, "failed")
            claim = first.result()
        else:
            assert isinstance(first.result(), StillRunning)
        finish(engine, claim)
        assert all(isinstance(other.result(), Replay) for other in others)

    @pytest.mark.parametrize("limit", [0, 2])
    def test_limit(
        self, faulty: FaultyStore, background: Callable[..., Future[object]], limit: int
    ) -> None:
        """Past max_waiters a duplicate does not wait; with 0 none waits."""
        engine = Engine(faulty, None, max_waiters=limit)
        claim = engine.claim(request())
        waiters = [background(engine.claim, request()) for _ in range(limit)]
        until(lambda: engine.waiters == limit)
        refused = engine.claim(request())
        assert isinstance(refused, StillRunning)
        assert refused.waited == 0
        finish(engine, claim)
        assert all(isinstance(waiter.result(), Replay) for waiter in waiters)
        engine.close()

    def test_store_comes_back(self, engine: Engine, faulty: FaultyStore) -> None:
        """A waiter whose store fails goes on polling, and gets the response when it is back."""
        claim = engine.claim(request())
        faulty.before["claim"] = [
            lambda: None,
            fail(StoreUnavailable("down")),
            lambda: finish(engine, claim),
        ]
        assert isinstance(engine.claim(request()), Replay)

    def test_store_stays_away(
        self, engine: Engine, faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A waiter whose store stays away fails at its timeout."""
        monkeypatch.setattr(_timing, "POLL_EVERY", 0.01)
        engine.claim(request())
        faulty.before["claim"] = [lambda: None] + [fail(StoreUnavailable("down"))] * 1000
        with within(0.4, at_least=0.2), pytest.raises(StoreUnavailable):
            engine.claim(request(timeout=0.2))
        faulty.before.clear()

    def test_failing_store_is_polled_slowly(self, engine: Engine, faulty: FaultyStore) -> None:
        """A waiter whose store fails polls once a second, however soon the lease ends."""
        engine.claim(request(lease=0.02))
        for claim in engine.worker.renewals:
            engine.worker.renewals.remove(claim)
        faulty.before["claim"] = [lambda: None] + [fail(StoreUnavailable("down"))] * 1000
        with pytest.raises(StoreUnavailable):
            engine.claim(request(timeout=0.3))
        assert faulty.calls.count("claim") < 5
        faulty.before.clear()

    def test_last_poll_of_a_silent_store_begins_in_time(
        self, engine: Engine, faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The last poll of a silent store does not make a request overshoot its timeout."""
        monkeypatch.setattr(_timing, "POLL_EVERY", 0.1)
        monkeypatch.setattr(_timing, "STORE_FAILS_WITHIN", 0.3)

        def silence() -> None:
            threading.Event().wait(0.25)
            raise StoreUnavailable("silent")

        engine.claim(request())
        faulty.before["claim"] = [lambda: None] + [silence] * 100
        with within(0.9, at_least=0.8), pytest.raises(StoreUnavailable):
            engine.claim(request(timeout=0.8))
        faulty.before.clear()
