"""Steps of a run: what is called, what is kept, and what happens when the store does not answer."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
from blinker import NamedSignal

from flask_idempotent import signals
from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import OutcomeUnknown, Replay
from flask_idempotent.engine.steps import Recorded, Steps
from flask_idempotent.engine.transactions import Answer
from flask_idempotent.errors import LeaseLost, RecordUnreadable, StepUnknown, StoreUnavailable
from flask_idempotent.stores.base import Step, Store
from tests.stores.harness import lapse
from tests.support.engines import KEY, claimed, finish, request
from tests.support.faulty_store import Clock, FaultyStore, fail

AWAY = StoreUnavailable("away")


def run_step(steps: Steps, name: str, value: Any = None, *, once: bool = False) -> Any:
    """Carry a step out; the value of an earlier run in a list."""
    recorded = steps.begin(name, once=once)
    if recorded is not None:
        return [recorded.value]
    steps.end(name, value)
    return value


@pytest.fixture
def engine(threadless: Engine) -> Engine:
    """An engine whose rounds are the test's to run."""
    return threadless


def steps_of(engine: Engine, **changes: Any) -> Steps:
    return engine.steps_of(claimed(engine, **changes))


def again(engine: Engine, steps: Steps, **changes: Any) -> Steps:
    """Release a run, and claim the next one."""
    engine.release(steps.claim, "failed")
    return steps_of(engine, **changes)


def overtake(engine: Engine, faulty: FaultyStore, steps: Steps) -> Claim:
    """Let the lease of a run end unnoticed, and another request take its key over."""
    advance(faulty, 31)
    claim = claimed(engine)
    steps.claim.renewed -= 31
    return claim


def advance(faulty: FaultyStore, seconds: float) -> None:
    assert isinstance(faulty.clock, Clock)
    faulty.clock.now += seconds


def ttl(faulty: FaultyStore) -> int:
    (info,) = faulty.inspect([KEY])
    return info.ttl_ms


def info_steps(faulty: FaultyStore) -> dict[str, str]:
    (info,) = faulty.inspect([KEY])
    return dict(info.steps)


def record_options(faulty: FaultyStore, name: str, seen: list[Any]) -> None:
    """Record the keywords with which a method of the store is called."""
    method = getattr(faulty, name)

    def recording(*args: Any, **options: Any) -> Any:
        seen.append(options)
        return method(*args, **options)

    setattr(faulty, name, recording)


@contextmanager
def signals_of(signal: NamedSignal) -> Iterator[list[dict[str, Any]]]:
    """Record what a signal says."""
    seen: list[dict[str, Any]] = []

    def note(_: object, **data: Any) -> None:
        seen.append(data)

    with signal.connected_to(note):
        yield seen


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
        steps = steps_of(engine, lease=0.05)
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
        """So it is where a worker's timeout interrupts the command."""
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


class TestLease:
    """The lease is checked before each step."""

    def test_young(self, engine: Engine, faulty: FaultyStore) -> None:
        """A young lease is not asked about; the step starts it again."""
        steps = steps_of(engine)
        steps.claim.renewed -= 9
        run_step(steps, "reserve")
        assert faulty.calls == ["claim", "step"]
        assert time.monotonic() - steps.claim.renewed < 5

    def test_old(self, engine: Engine, faulty: FaultyStore) -> None:
        """One of which a third is over is renewed first."""
        steps = steps_of(engine)
        steps.claim.renewed -= 11
        run_step(steps, "reserve")
        assert faulty.calls == ["claim", "renew", "step"]

    def test_lost_before(self, engine: Engine, faulty: FaultyStore) -> None:
        """A late owner's step does not begin, and the loss is reported once."""
        steps = steps_of(engine)
        other = overtake(engine, faulty, steps)
        with signals_of(signals.lease_lost) as lost:
            for _ in range(2):
                with pytest.raises(LeaseLost):
                    steps.begin("charge", once=True)
        assert [data["owner"] for data in lost] == [steps.claim.owner]
        assert not steps.claim.held
        assert info_steps(faulty) == {}
        finish(engine, other)

    @pytest.mark.parametrize("once", [True, False])
    def test_lost_unnoticed(self, engine: Engine, faulty: FaultyStore, once: bool) -> None:
        """Where only the store knows of the loss, the mark is not written."""
        steps = steps_of(engine)
        overtake(engine, faulty, steps)
        steps.claim.renewed = time.monotonic()
        if once:
            with pytest.raises(LeaseLost):
                steps.begin("charge", once=True)
        else:
            steps.begin("charge", once=False)
            with pytest.raises(LeaseLost):
                steps.end("charge", 5)
        assert info_steps(faulty) == {}
        assert not steps.claim.held

    def test_late_owner_records_nothing(self, engine: Engine, faulty: FaultyStore) -> None:
        """Its step's result is not kept, and the other run calls the function itself."""
        steps = steps_of(engine)
        steps.begin("reserve", once=False)
        other = overtake(engine, faulty, steps)
        with pytest.raises(LeaseLost):
            steps.end("reserve", 5)
        assert run_step(engine.steps_of(other), "reserve", 6) == 6

    @pytest.mark.parametrize("later", [True, False])
    def test_response_after_a_refused_step(
        self, engine: Engine, faulty: FaultyStore, later: bool
    ) -> None:
        """Nor is its response kept, or offered to the other run, now or in the background."""
        steps = steps_of(engine)
        other = overtake(engine, faulty, steps)
        with pytest.raises(LeaseLost):
            steps.begin("charge", once=False)
        complete = engine.complete_later if later else engine.complete
        complete(steps.claim, 402, (), b"it failed")
        assert not engine.worker.pending
        assert list(engine.worker.renewals) == [other]
        assert faulty.read_offer(KEY) is None

    def test_released_by_operator(self, engine: Engine, faulty: FaultyStore) -> None:
        """After an operator's release no further step begins."""
        steps = steps_of(engine)
        faulty.release(
            KEY, steps.claim.record.owner, response_ttl_ms=1000, tombstone_ttl_ms=1000,
            owner_may_run=True,
        )  # fmt: skip
        with pytest.raises(LeaseLost):
            steps.begin("charge", once=True)

    def test_record_is_gone(self, engine: Engine, faulty: FaultyStore) -> None:
        """A record that the store has lost is restored, and the step is written then."""
        steps = steps_of(engine)
        steps.begin("charge", once=True)
        faulty.delete([KEY])
        faulty.calls.clear()
        steps.end("charge", 5)
        assert faulty.calls == ["step", "renew", "step"]
        assert info_steps(faulty) == {"charge": "ended"}

    def test_record_is_gone_and_another_is_there(self, engine: Engine, faulty: FaultyStore) -> None:
        """Where another has claimed the key before it is restored, the lease is lost."""
        steps = steps_of(engine)
        faulty.delete([KEY])
        faulty.after["step"] = [lambda: claimed(engine)]
        with pytest.raises(LeaseLost):
            steps.begin("charge", once=True)

    def test_records_are_always_gone(self, engine: Engine, faulty: FaultyStore) -> None:
        """A store that keeps nothing does not let a step with ``once`` begin."""
        steps = steps_of(engine)
        faulty.before["step"] = [lambda: faulty.delete([KEY])] * 2
        with pytest.raises(StoreUnavailable, match="lost the record"):
            steps.begin("charge", once=True)

    def test_store_is_away_and_lease_lasts(self, engine: Engine, faulty: FaultyStore) -> None:
        """A renewal that fails does not keep a step from beginning while the lease lasts."""
        steps = steps_of(engine)
        steps.claim.renewed -= 11
        faulty.before["renew"] = [fail(AWAY)]
        with signals_of(signals.store_failed) as failures:
            assert run_step(steps, "reserve", 5) == 5
        assert [data["operation"] for data in failures] == ["renew"]

    def test_store_is_away_and_lease_is_over(self, engine: Engine, faulty: FaultyStore) -> None:
        """When the lease is over nobody knows whose the key is: no step begins."""
        steps = steps_of(engine)
        steps.claim.renewed -= 31
        faulty.before["renew"] = [fail(AWAY)]
        with pytest.raises(StoreUnavailable, match="whether the lease"):
            steps.begin("reserve", once=False)

    def test_renewal_is_unknown(
        self, engine: Engine, faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So it is where the store does not say whether it has renewed."""
        steps = steps_of(engine)
        monkeypatch.setattr(faulty, "renew", lambda *_, **__: [None])
        steps.claim.renewed -= 11
        assert steps.begin("reserve", once=False) is None
        steps.claim.renewed -= 20
        with pytest.raises(StoreUnavailable):
            steps.begin("charge", once=False)

    def test_max_run(self, engine: Engine, faulty: FaultyStore) -> None:
        """After ``max_run`` steps go on for what the lease has left, and do not start it again."""
        steps = steps_of(engine, max_run=5.0)
        steps.claim.sent -= 6
        advance(faulty, 6)
        before = ttl(faulty)
        run_step(steps, "reserve")
        run_step(steps, "charge", once=True)
        assert "renew" not in faulty.calls
        (info,) = faulty.inspect([KEY])
        assert info.lease_left_ms == before - 210_000
        steps.claim.renewed -= 30
        with pytest.raises(LeaseLost):
            steps.begin("mail", once=False)

    def test_max_run_and_record_is_gone(self, engine: Engine, faulty: FaultyStore) -> None:
        """After ``max_run`` a record that is gone is not restored."""
        steps = steps_of(engine, max_run=5.0)
        steps.claim.sent -= 6
        faulty.delete([KEY])
        with pytest.raises(LeaseLost):
            steps.begin("charge", once=True)
        assert list(faulty.scan("")) == []

    def test_run_ends_meanwhile(self, engine: Engine, faulty: FaultyStore) -> None:
        """A record that is gone because the run has ended meanwhile is not restored."""
        steps = steps_of(engine)

        def end() -> None:
            steps.claim.settled = True
            faulty.delete([KEY])

        faulty.before["step"] = [end]
        with pytest.raises(LeaseLost):
            steps.begin("charge", once=True)
        assert list(faulty.scan("")) == []

    def test_run_is_over(self, engine: Engine, faulty: FaultyStore) -> None:
        """A thread that goes on after the view begins no step, and restores no record."""
        steps = steps_of(engine)
        steps.begin("reserve", once=False)
        engine.release(steps.claim, "failed")
        faulty.delete([KEY])
        with signals_of(signals.lease_lost) as lost:
            with pytest.raises(LeaseLost, match="the view has ended"):
                steps.end("reserve", 5)
            with pytest.raises(LeaseLost):
                steps.begin("charge", once=True)
        assert list(faulty.scan("")) == []
        assert lost == []
        assert steps.claim.held


class TestStoreFails:
    def test_result(
        self, engine: Engine, faulty: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A result that the store does not take is reported, and written with the next step."""
        steps = steps_of(engine)
        faulty.before["step"] = [fail(AWAY)]
        with signals_of(signals.store_failed) as failures:
            assert run_step(steps, "reserve", 5) == 5
        (record,) = caplog.records
        assert (record.levelno, "'reserve'" in record.message) == (logging.WARNING, True)
        assert [data["operation"] for data in failures] == ["step"]
        assert info_steps(faulty) == {}
        run_step(steps, "mail", 6)
        assert info_steps(faulty) == {"reserve": "ended", "mail": "ended"}

    def test_result_before_mark(self, engine: Engine, faulty: FaultyStore) -> None:
        """It is written before the next step with ``once`` begins."""
        steps = steps_of(engine)
        faulty.before["step"] = [fail(AWAY), fail(AWAY)]
        run_step(steps, "reserve", 5)
        with pytest.raises(StoreUnavailable):
            steps.begin("charge", once=True)
        assert faulty.calls.count("step") == 2
        steps.begin("charge", once=True)
        assert info_steps(faulty) == {"reserve": "ended", "charge": "started"}

    def test_result_at_release(self, engine: Engine, faulty: FaultyStore) -> None:
        """It is written before the claim is released, so the next run has it."""
        steps = steps_of(engine)
        steps.begin("charge", once=True)
        faulty.before["step"] = [fail(AWAY)]
        steps.end("charge", 5)
        assert run_step(again(engine, steps), "charge", once=True) == [5]

    def test_result_at_late_release(self, engine: Engine, faulty: FaultyStore) -> None:
        """Where the release is retried in the background, so is the result."""
        steps = steps_of(engine)
        steps.begin("charge", once=True)
        faulty.before["step"] = [fail(AWAY)] * 3
        steps.end("charge", 5)
        engine.release(steps.claim, "failed")
        with pytest.raises(StoreUnavailable):
            engine.worker.pending.run()
        engine.worker.pending.run()
        assert run_step(steps_of(engine), "charge", once=True) == [5]

    def test_result_of_lost_claim(self, engine: Engine, faulty: FaultyStore) -> None:
        """It is dropped where the key has become another's."""
        steps = steps_of(engine)
        faulty.before["step"] = [fail(AWAY)]
        run_step(steps, "reserve", 5)
        other = overtake(engine, faulty, steps)
        engine.release(steps.claim, "failed")
        assert info_steps(faulty) == {}
        finish(engine, other)

    def test_lost_reply(self, engine: Engine, faulty: FaultyStore) -> None:
        """A result whose reply was lost is written again, with the same effect."""
        steps = steps_of(engine)
        faulty.after["step"] = [fail(AWAY)]
        run_step(steps, "reserve", 5)
        run_step(steps, "mail", 6)
        assert run_step(again(engine, steps), "reserve") == [5]

    def test_read(self, engine: Engine, faulty: FaultyStore) -> None:
        """Where the steps of earlier runs cannot be read no step begins; the next call reads."""
        steps = steps_of(engine)
        run_step(steps, "reserve", 5)
        steps = again(engine, steps)
        faulty.before["read_steps"] = [fail(AWAY)]
        with pytest.raises(StoreUnavailable):
            steps.begin("reserve", once=False)
        assert run_step(steps, "reserve") == [5]

    def test_damaged(self, engine: Engine, faulty: FaultyStore) -> None:
        """A damaged result is an error, and the function is not called instead."""
        steps = steps_of(engine)
        record = steps.claim.record
        faulty.write_step(KEY, record, Step("reserve", record.owner, 1.0, b"\xc1"), ttl_ms=None)
        steps = again(engine, steps)
        for _ in range(2):
            with pytest.raises(RecordUnreadable, match="damaged"):
                steps.begin("reserve", once=False)

    def test_unsupported_value(self, engine: Engine, faulty: FaultyStore) -> None:
        """A value that cannot be recorded is an error that names the step."""
        steps = steps_of(engine)
        with pytest.raises(TypeError, match=r"'reserve' returned a value .* builtins\.set,"):
            run_step(steps, "reserve", {1})
        assert faulty.calls == ["claim"]


class TestSettled:
    def test_restore(self, engine: Engine, faulty: FaultyStore) -> None:
        """An answer of the view's own database deletes the steps, on a first attempt too."""
        options: list[Any] = []
        record_options(faulty, "complete", options)
        claim = claimed(engine)
        answer = Answer(KEY, claim.completed(201, (), b"answer"), 1000)
        engine.restore(claim, answer)
        engine.restore_unclaimed(answer)
        finish(engine, claimed(engine, storage_key="IDEMPOTENT_{other}"))
        assert [option["has_steps"] for option in options] == [True, True, False]

    def test_second_key_only_where_needed(self, engine: Engine, faulty: FaultyStore) -> None:
        """Renewals and releases of a first attempt without steps name no steps."""
        options: list[Any] = []
        record_options(faulty, "release", options)
        claim = claimed(engine)
        assert claim.renewal().has_steps is False
        engine.release(claim, "failed")
        steps = steps_of(engine)
        assert steps.claim.renewal().has_steps is True
        run_step(steps, "reserve")
        engine.release(steps.claim, "failed")
        claim = claimed(engine)
        assert claim.renewal().has_steps is True
        engine.release(claim, "failed")
        assert [option["has_steps"] for option in options] == [False, True, True]

    def test_unknown_and_abandoned_claims(self, engine: Engine, faulty: FaultyStore) -> None:
        """A claim that may be a later attempt, and one whose view will not run, do so as well."""
        options: list[Any] = []
        record_options(faulty, "release", options)
        faulty.after["claim"] = [fail(AWAY)]
        with pytest.raises(StoreUnavailable):
            engine.claim(request())
        engine.worker.pending.run()
        engine.abandon(again(engine, steps_of(engine)).claim)
        engine.worker.pending.run()
        assert [option["has_steps"] for option in options] == [True, True, True]

    def test_replicas(
        self, engine: Engine, faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With ``min_replicas`` they are written to the store that replicas confirm."""
        confirmed = FaultyStore()
        monkeypatch.setattr(faulty, "confirmed_by", lambda replicas: confirmed)
        steps = steps_of(engine, min_replicas=1)
        run_step(steps, "charge", once=True)
        assert confirmed.calls == ["claim", "step", "step"]
        assert faulty.calls == []


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
