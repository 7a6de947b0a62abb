"""Keys that a function holds after a crash: ``on_crash=function`` returns "hold", or fails."""

from __future__ import annotations

import logging

import pytest

from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.records import ReleasedRecord, RunningRecord
from flask_idempotent.web.state import state_of
from tests.support.clients import WayIn, post, problem
from tests.support.engines import without_thread
from tests.support.faulty_store import fail
from tests.support.payments import Payments


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
