"""Steps when the store does not answer, and after the view has ended."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from flask_idempotent import signals
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.transactions import Answer
from flask_idempotent.errors import RecordUnreadable, StoreUnavailable
from flask_idempotent.stores.base import Step
from tests.support.engine_steps import (
    again,
    info_steps,
    overtake,
    record_options,
    run_step,
    signals_of,
    steps_of,
)
from tests.support.engines import KEY, claimed, finish, request
from tests.support.faulty_store import FaultyStore, fail

AWAY = StoreUnavailable("away")


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
