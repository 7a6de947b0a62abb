"""Steps of a run and its lease."""

from __future__ import annotations

import time

import pytest

from flask_idempotent import signals
from flask_idempotent.engine.engine import Engine
from flask_idempotent.errors import LeaseLost, StoreUnavailable
from tests.support.engine_steps import (
    advance,
    info_steps,
    overtake,
    run_step,
    signals_of,
    steps_of,
    ttl,
)
from tests.support.engines import KEY, claimed, finish
from tests.support.faulty_store import FaultyStore, fail

AWAY = StoreUnavailable("away")


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

    def test_lost_while_marking(
        self, engine: Engine, faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the reply to the mark comes after the lease, the function is not called."""
        steps = steps_of(engine, decides=True)

        def pass_lease() -> None:
            later = time.monotonic() + 31
            monkeypatch.setattr("time.monotonic", lambda: later)
            advance(faulty, 31)
            claimed(engine, decides=True)

        faulty.after["step"] = [pass_lease]
        with pytest.raises(LeaseLost):
            steps.begin("charge", once=True)

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
        """After a refused step the response is neither kept nor offered, now or later."""
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
        """Where the store does not say whether it has renewed, steps begin until the lease ends."""
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
