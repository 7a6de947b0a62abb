"""The engine: which request runs, and what the others get."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
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
from flask_idempotent.errors import RecordUnreadable, StoreUnavailable
from flask_idempotent.records import RunningRecord
from tests.stores.harness import lapse, time_left
from tests.support.engines import KEY, claimed, finish, request
from tests.support.faulty_store import Clock, FaultyStore, fail
from tests.support.pauses import within
from tests.support.polling import until


class TestClaim:
    def test_first_runs(self, engine: Engine) -> None:
        """The first request of a key claims it, with an owner token and attempt 1."""
        claim = claimed(engine)
        assert (claim.key, claim.attempt, claim.held) == ("client-key", 1, True)
        assert len(claim.owner) == 32

    def test_later_duplicate_gets_the_response(self, engine: Engine) -> None:
        """C2: after completion every request gets the response, at once."""
        finish(engine, engine.claim(request()))
        replay = engine.claim(request())
        assert isinstance(replay, Replay)
        assert (replay.completed.body, replay.completed.status) == (b"done", 200)
        assert replay.waited == 0

    def test_duplicate_at_once_may_not_wait(self, engine: Engine) -> None:
        """C1: with timeout 0 a duplicate does not wait; it gets the owner's lease and start."""
        claim = engine.claim(request(lease=2.5))
        waiting = engine.claim(request(timeout=0))
        assert isinstance(claim, Claim)
        assert waiting == StillRunning(2.5, 0.0, claim.record.started)

    def test_timeout(self, engine: Engine) -> None:
        """C1: a duplicate waits as long as its timeout and overshoots by less than 0.2 s."""
        engine.claim(request())
        with within(0.3, at_least=0.1):
            waiting = engine.claim(request(timeout=0.1))
        assert isinstance(waiting, StillRunning)
        assert waiting.waited >= 0.1

    @pytest.mark.parametrize("state", ["in progress", "completed", "lapsed"])
    def test_other_payload(self, engine: Engine, faulty: FaultyStore, state: str) -> None:
        """F4: another payload is a mismatch, whatever the state of the record."""
        claim = engine.claim(request("one"))
        if state == "completed":
            finish(engine, claim)
        if state == "lapsed":
            lapse(faulty, KEY)
        assert isinstance(engine.claim(request("two")), FingerprintMismatch)

    def test_record_outlives_its_lease(self, engine: Engine, faulty: FaultyStore) -> None:
        """A record lives for its lease at least, so that a crash can be noticed."""
        engine.claim(request(expire=1.0, lease=30.0))
        assert time_left(faulty, KEY) == 30_000

    def test_lapsed_claim_is_taken_over(self, engine: Engine, faulty: FaultyStore) -> None:
        """After an owner's death the next request runs, as attempt 2, under a new token."""
        first = engine.claim(request())
        lapse(faulty, KEY)
        second = engine.claim(request())
        assert isinstance(first, Claim)
        assert isinstance(second, Claim)
        assert second.attempt == 2
        assert second.owner != first.owner

    def test_number_goes_on_after_a_failure(self, engine: Engine, faulty: FaultyStore) -> None:
        """After a crash and a take-over that fails, the third run is attempt 3, not 1."""
        engine.claim(request())
        lapse(faulty, KEY)
        second = claimed(engine)
        engine.release(second, "failed")
        assert time_left(faulty, KEY) == 240_000
        third = claimed(engine)
        assert third.attempt == 3
        assert faulty.read(KEY) == third.record

    def test_lapsed_claim_is_held(self, engine: Engine, faulty: FaultyStore) -> None:
        """With on_crash="hold" no request runs or waits after an owner's death."""
        engine.claim(request())
        lapse(faulty, KEY)
        assert isinstance(engine.claim(request(takeover=False)), OutcomeUnknown)

    def test_late_decision(self, engine: Engine, faulty: FaultyStore) -> None:
        """Nothing runs by a decision about a run after which another one has died."""
        claimed(engine)
        lapse(faulty, KEY)
        late, other = request(decides=True, timeout=0), request(decides=True, timeout=0)
        slow = engine.claim(late)
        assert isinstance(slow, Claim)
        lapse(faulty, KEY)
        in_time = engine.claim(other)
        assert isinstance(in_time, Claim)
        assert engine.begin(in_time) is in_time
        lapse(faulty, KEY)
        assert not isinstance(engine.begin(slow), Claim)
        assert faulty.read(KEY) == in_time.record

    def test_unreadable_record(self, engine: Engine, faulty: FaultyStore) -> None:
        """An unreadable record is an error, never a second run."""
        faulty.before["claim"] = [fail(RecordUnreadable("damaged"))]
        with pytest.raises(RecordUnreadable):
            engine.claim(request())

    def test_slow_reply_is_renewed(self, engine: Engine, faulty: FaultyStore) -> None:
        """A claim whose reply took a third of its lease is renewed before the view runs."""
        faulty.after["claim"] = [lambda: threading.Event().wait(0.05)]
        claim = claimed(engine, lease=0.12)
        assert faulty.calls[:2] == ["claim", "renew"]
        assert claim.held

    def test_replies_that_are_always_late(self, engine: Engine, faulty: FaultyStore) -> None:
        """A store that answers slower than the lease lasts is a failed store."""
        slow = lambda: threading.Event().wait(0.08)  # noqa: E731
        faulty.after["claim"], faulty.after["renew"] = [slow], [slow] * 3
        with pytest.raises(StoreUnavailable, match="longer to answer than a lease"):
            engine.claim(request(lease=0.06))
        until(lambda: faulty.read(KEY) is None)

    def test_reply_after_the_lease(
        self, engine: Engine, faulty: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A claim that was lost before its reply came is claimed again, and no view overlapped."""

        def meanwhile() -> None:
            threading.Event().wait(0.05)
            lapse(faulty, KEY)
            other.append(engine.claim(request()))

        other: list[object] = []
        faulty.after["claim"] = [meanwhile]
        outcome = engine.claim(request(lease=0.12, timeout=0))
        assert isinstance(other[0], Claim)
        assert isinstance(outcome, StillRunning)
        assert "lease lost" not in caplog.text

    def test_reply_that_is_always_late(
        self, engine: Engine, faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With a store that is always slow the view runs after three renewals."""
        monkeypatch.setattr(_timing, "RENEW_AFTER", 0.0)  # Every reply comes later.
        assert isinstance(engine.claim(request()), Claim)
        assert faulty.calls[:4] == ["claim", "renew", "renew", "renew"]

    def test_reply_that_always_takes_longer_than_the_lease(
        self, engine: Engine, faulty: FaultyStore
    ) -> None:
        """With a store too slow for the lease the request fails, and the claim is released."""
        faulty.after["claim"] = [lambda: threading.Event().wait(0.05)]
        faulty.after["renew"] = [lambda: threading.Event().wait(0.05)] * 9
        with pytest.raises(StoreUnavailable, match="than a lease lasts"):
            engine.claim(request(lease=0.03))
        until(lambda: faulty.read(KEY) is None)


class TestUnknownClaim:
    def test_is_given_back(self, engine: Engine, faulty: FaultyStore) -> None:
        """A claim whose reply never came is released, so that the retry runs."""
        faulty.after["claim"] = [fail(StoreUnavailable("reply lost", sent=True))]
        with pytest.raises(StoreUnavailable):
            engine.claim(request())
        until(lambda: faulty.read(KEY) is None)
        assert isinstance(engine.claim(request(timeout=0)), Claim)

    def test_not_sent_needs_nothing(self, engine: Engine, faulty: FaultyStore) -> None:
        """A claim that was never sent needs no release, so an outage leaves nothing pending."""
        faulty.before["claim"] = [fail(StoreUnavailable("refused", sent=False))]
        with pytest.raises(StoreUnavailable):
            engine.claim(request())
        assert not engine.worker.pending

    def test_interrupted(self, engine: Engine, faulty: FaultyStore) -> None:
        """A web server's timeout in the middle of a claim leaves no claim."""
        faulty.after["claim"] = [fail(KeyboardInterrupt())]  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            engine.claim(request())
        until(lambda: faulty.read(KEY) is None)


class TestProcesses:
    @pytest.mark.parametrize("step", ["complete", "complete later", "release"])
    def test_child_owns_nothing_of_its_parents(self, engine: Engine, step: str) -> None:
        """After a fork inside a view the child settles no claim of its parent."""
        claim = claimed(engine)
        claim.pid = os.getpid() + 1
        if step == "complete":
            finish(engine, claim)
        elif step == "complete later":
            engine.complete_later(claim, 200, (), b"done")
            engine.worker.pending.run()
        else:
            engine.release(claim, "failed")
        assert isinstance(engine.store.read(KEY), RunningRecord)

    def test_engine_closes_with_its_last_user(self) -> None:
        """The thread of an engine that is no longer referenced ends."""
        faulty = FaultyStore(Clock())
        engine = Engine(faulty, None)
        engine.claim(request())
        (thread,) = [t for t in threading.enumerate() if t.name == "flask-idempotent-worker"]
        del engine
        thread.join(5)
        assert not thread.is_alive()


class TestEnvironment:
    def test_wall_clock_may_leap(
        self,
        real_engine: Engine,
        background: Callable[..., Future[object]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Leases, waits and renewals do not depend on the wall clock."""
        days = itertools.cycle([0, 86_400, -86_400])
        monkeypatch.setattr(time, "time", lambda: 1e9 + next(days))
        claim = claimed(real_engine, lease=30.0)
        with within(0.6, at_least=0.3):
            assert isinstance(real_engine.claim(request(timeout=0.3)), StillRunning)
        assert claim.renewed == claim.sent
        waiter = background(real_engine.claim, request())
        until(lambda: real_engine.waiters == 1)
        finish(real_engine, claim)
        assert isinstance(waiter.result(), Replay)

    def test_no_event_loop(
        self,
        real_engine: Engine,
        background: Callable[..., Future[object]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """No event loop is used: gevent may have its own."""
        monkeypatch.setattr(asyncio, "new_event_loop", fail(RuntimeError("an event loop")))
        monkeypatch.setattr(asyncio.events, "new_event_loop", fail(RuntimeError("an event loop")))
        claim = real_engine.claim(request())
        waiter = background(real_engine.claim, request())
        until(lambda: real_engine.waiters == 1)
        finish(real_engine, claim)
        assert isinstance(waiter.result(), Replay)
