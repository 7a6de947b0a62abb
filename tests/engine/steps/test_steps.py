"""Steps of a run: what is called, and what is kept."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import OutcomeUnknown, Replay
from flask_idempotent.engine.steps import Recorded, Steps
from flask_idempotent.errors import LeaseLost, StepUnknown, StoreUnavailable
from flask_idempotent.stores.base import Step, Store
from tests.stores.harness import lapse
from tests.support.engine_steps import (
    advance,
    again,
    info_steps,
    run_step,
    steps_of,
    ttl,
)
from tests.support.engines import KEY, claimed, finish, request
from tests.support.faulty_store import FaultyStore, fail

AWAY = StoreUnavailable("away")


class TestRecorded:
    def test_next_run(self, real_engine: Engine) -> None:
        """A recorded step's result comes back in the next run, in every store."""
        steps = steps_of(real_engine)
        assert run_step(steps, "reserve", {"stock": (1, 2)}) == {"stock": (1, 2)}
        assert run_step(steps, "charge", None, once=True) is None
        steps = again(real_engine, steps)
        assert steps.claim.attempt == 2
        assert run_step(steps, "charge", "another", once=True) == [None]
        assert run_step(steps, "reserve", "another") == [{"stock": (1, 2)}]
        assert run_step(steps, "mail", "sent") == "sent"
        finish(real_engine, steps.claim)
        assert isinstance(real_engine.claim(request()), Replay)

    def test_after_a_crash(self, store: Store) -> None:
        """It comes back when another process takes over, in every store."""
        engine, other = Engine(store, None), Engine(store, None)
        steps = steps_of(engine)
        engine.worker.renewals.remove(steps.claim)
        run_step(steps, "reserve", 5)
        lapse(store, KEY)
        assert run_step(steps_of(other, lease=30.0), "reserve") == [5]
        engine.close()
        other.close()

    def test_another_payload(self, real_engine: Engine) -> None:
        """A request with another payload begins without the steps, in every store."""
        steps = steps_of(real_engine)
        run_step(steps, "reserve", 5)
        real_engine.release(steps.claim, "failed")
        claim = real_engine.claim(request("another"))
        assert isinstance(claim, Claim)
        assert run_step(real_engine.steps_of(claim), "reserve", 6) == 6

    def test_commands(self, engine: Engine, faulty: FaultyStore) -> None:
        """A step takes one command, one with ``once`` two; a later run reads once, at its first."""
        steps = steps_of(engine)
        run_step(steps, "reserve")
        assert faulty.calls == ["claim", "step"]
        run_step(steps, "charge", once=True)
        assert faulty.calls == ["claim", "step", "step", "step"]
        steps = again(engine, steps)
        faulty.calls.clear()
        run_step(steps, "reserve")
        run_step(steps, "charge", once=True)
        assert faulty.calls == ["read_steps"]
        run_step(steps, "mail")
        assert faulty.calls == ["read_steps", "step"]

    def test_no_steps_no_commands(self, engine: Engine, faulty: FaultyStore) -> None:
        """A run without steps adds nothing, to a later attempt neither."""
        finish(engine, claimed(engine))
        assert faulty.calls == ["claim", "complete"]

    def test_deleted_with_the_response(self, engine: Engine, faulty: FaultyStore) -> None:
        """When the response is stored the steps are deleted."""
        steps = steps_of(engine)
        run_step(steps, "reserve")
        finish(engine, steps.claim)
        (info,) = faulty.inspect([KEY])
        assert info.steps == {}


class TestNames:
    def test_used_twice(self, engine: Engine) -> None:
        """A name that was used before in a run is an error that names it and says what to do."""
        steps = steps_of(engine)
        run_step(steps, "reserve")
        with pytest.raises(ValueError, match=r"'reserve' was called before .* 'reserve-1'"):
            steps.begin("reserve", once=False)

    def test_recorded_used_twice(self, engine: Engine) -> None:
        """It is one for a recorded step as well, and for one whose function failed."""
        steps = steps_of(engine)
        run_step(steps, "reserve")
        steps = again(engine, steps)
        run_step(steps, "reserve")
        steps.begin("failed", once=False)
        for name in ("reserve", "failed"):
            with pytest.raises(ValueError, match=f"'{name}' was called before"):
                steps.begin(name, once=False)

    def test_free_again(self, engine: Engine, faulty: FaultyStore) -> None:
        """A step that the store did not let begin may be called again."""
        steps = steps_of(engine)
        faulty.before["step"] = [fail(AWAY)]
        with pytest.raises(StoreUnavailable):
            steps.begin("charge", once=True)
        assert run_step(steps, "charge", 1, once=True) == 1


class TestOnce:
    def test_unknown(self, real_engine: Engine) -> None:
        """A step that began and did not end keeps its key from being claimed, in every store."""
        steps = steps_of(real_engine)
        assert steps.begin("charge", once=True) is None
        real_engine.release(steps.claim, "failed")
        assert real_engine.claim(request(timeout=0.0)) == OutcomeUnknown(None)
        assert real_engine.claim(request(timeout=5.0)) == OutcomeUnknown(None)

    def test_unknown_after_a_crash(self, engine: Engine, faulty: FaultyStore) -> None:
        """The same when the process dies, under ``rerun`` too."""
        steps = steps_of(engine)
        steps.begin("charge", once=True)
        engine.worker.renewals.remove(steps.claim)
        advance(faulty, 31)
        assert engine.claim(request(timeout=0.0)) == OutcomeUnknown(None)

    def test_function_is_asked(self, engine: Engine, faulty: FaultyStore) -> None:
        """Where a function decides, it is asked; when it lets the view run, the step may begin."""
        steps = steps_of(engine, decides=True, hold_for=3600.0)
        run_step(steps, "reserve", 5)
        steps.begin("charge", once=True)
        engine.release(steps.claim, "failed")
        claim = claimed(engine, decides=True, hold_for=3600.0)
        assert claim.is_to_decide
        assert engine.begin(claim) is claim
        steps = engine.steps_of(claim)
        assert run_step(steps, "charge", "paid", once=True) == "paid"
        assert run_step(steps, "reserve") == [5]

    def test_lives_for_hold(self, engine: Engine, faulty: FaultyStore) -> None:
        """From the first mark on the record lives ``hold_for``, also when it is renewed."""
        steps = steps_of(engine, hold_for=3600.0)
        run_step(steps, "reserve")
        assert ttl(faulty) == 240_000
        steps.begin("charge", once=True)
        assert ttl(faulty) == 3_600_000
        advance(faulty, 11)
        engine.worker.renewals.renew_now(steps.claim)
        assert ttl(faulty) == 3_600_000
        (info,) = faulty.inspect([KEY])
        assert info.lease_left_ms == 30_000

    def test_restored(self, engine: Engine, faulty: FaultyStore) -> None:
        """A record that is restored lives as long."""
        steps = steps_of(engine, hold_for=3600.0)
        steps.begin("charge", once=True)
        faulty.delete([KEY])
        engine.worker.renewals.renew_now(steps.claim)
        (info,) = faulty.inspect([KEY])
        assert (info.ttl_ms, info.lease_left_ms) == (3_600_000, 30_000)

    def test_reply_to_mark_is_lost(self, engine: Engine, faulty: FaultyStore) -> None:
        """Where the mark may be written although the function never ran, the release removes it."""
        steps = steps_of(engine)
        faulty.after["step"] = [fail(AWAY)]
        with pytest.raises(StoreUnavailable):
            steps.begin("charge", once=True)
        assert info_steps(faulty) == {"charge": "started"}
        steps = again(engine, steps)
        assert run_step(steps, "charge", 1, once=True) == 1

    def test_renewed_after_lost_reply(self, engine: Engine, faulty: FaultyStore) -> None:
        """Time to live and grace go together, whether the mark was written or not."""
        for moment in (faulty.before, faulty.after):
            steps = steps_of(engine, hold_for=3600.0)
            moment["step"] = [fail(AWAY)]
            with pytest.raises(StoreUnavailable):
                steps.begin("charge", once=True)
            engine.worker.renewals.renew_now(steps.claim)
            (info,) = faulty.inspect([KEY])
            assert (info.ttl_ms, info.lease_left_ms) == (3_600_000, 30_000)
            faulty.delete([KEY])

    def test_interrupted_while_marking(self, engine: Engine, faulty: FaultyStore) -> None:
        """The release also removes a mark whose command a worker's timeout has interrupted."""
        steps = steps_of(engine)
        faulty.after["step"] = [sys.exit]
        with pytest.raises(SystemExit):
            steps.begin("charge", once=True)
        assert run_step(again(engine, steps), "charge", 1, once=True) == 1

    @pytest.mark.parametrize("once", [True, False])
    def test_mark_of_another_run(self, engine: Engine, faulty: FaultyStore, once: bool) -> None:
        """A step that began in an earlier run is unknown, however it is called now."""
        steps = steps_of(engine)
        steps.begin("charge", once=True)
        steps = again(engine, steps, takeover=True, decides=True)
        with pytest.raises(StepUnknown) as error:
            steps.begin("charge", once=once)
        assert error.value.name == "charge"

    @pytest.mark.parametrize(("value", "result"), [(None, StepUnknown("charge")), (b"\x07", 7)])
    def test_lost_record(
        self,
        engine: Engine,
        faulty: FaultyStore,
        monkeypatch: pytest.MonkeyPatch,
        value: bytes | None,
        result: object,
    ) -> None:
        """Where the store has lost the record and not the steps, the mark finds them."""
        steps = steps_of(engine)
        found = Step("charge", b"another owner 12", 1.0, value)
        monkeypatch.setattr(faulty, "write_step", lambda *_, **__: found)
        if isinstance(result, StepUnknown):
            with pytest.raises(StepUnknown):
                steps.begin("charge", once=True)
        else:
            assert steps.begin("charge", once=True) == Recorded(result)
        assert steps.unstarted == ""


class TestThreads:
    def test_lock_is_of_the_present_kind(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A run's lock is gevent's, even where gevent patched threading after our import."""
        claim = claimed(engine)
        monkeypatch.setattr(threading, "Lock", threading.RLock)
        steps = engine.steps_of(claim)
        locks = [lock for lock in vars(steps).values() if hasattr(lock, "acquire")]
        assert [type(lock) for lock in locks] == [type(threading.RLock())]

    def test_two_at_once(
        self, engine: Engine, faulty: FaultyStore, background: Callable[..., Future[Any]]
    ) -> None:
        """Two threads of a run may have steps at the same time."""
        steps, both = steps_of(engine), threading.Barrier(2, timeout=10)

        def one(name: str) -> Any:
            assert steps.begin(name, once=True) is None
            both.wait()
            steps.end(name, name)

        for future in [background(one, name) for name in ("a", "b")]:
            future.result(10)
        assert info_steps(faulty) == {"a": "ended", "b": "ended"}

    def test_one_object_for_a_run(
        self, engine: Engine, background: Callable[..., Future[Any]]
    ) -> None:
        """All threads of a run have the same names."""
        claim, both = claimed(engine), threading.Barrier(2, timeout=10)

        def get() -> Steps:
            both.wait()
            return engine.steps_of(claim)

        first, second = [background(get) for _ in range(2)]
        assert first.result(10) is second.result(10)

    def test_forked_child(self, engine: Engine, faulty: FaultyStore) -> None:
        """A child does not own its parent's claims, waits for no lock and sends nothing."""
        steps = steps_of(engine)
        steps.begin("reserve", once=False)
        steps.claim.pid -= 1
        faulty.calls.clear()
        with steps.claim.lock:
            for call in (
                lambda: engine.steps_of(steps.claim),
                lambda: steps.begin("charge", once=True),
                lambda: steps.end("reserve", 5),
            ):
                with pytest.raises(LeaseLost, match="forked"):
                    call()
        assert faulty.calls == []
