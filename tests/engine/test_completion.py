"""Completing and releasing: what becomes of a claim, now or later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flask_idempotent import signals
from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import Replay
from flask_idempotent.errors import StoreUnavailable, WriteRefused
from flask_idempotent.records import CompletedRecord
from tests.stores.harness import lapse
from tests.support.engines import KEY, claimed, finish, request
from tests.support.faulty_store import FaultyStore, fail
from tests.support.polling import until


class TestComplete:
    def test_is_reported(self, engine: Engine) -> None:
        """A stored response is reported by a signal."""
        sent: list[dict[str, Any]] = []
        with signals.completed.connected_to(lambda sender, **data: sent.append(data)):
            finish(engine, engine.claim(request()))
        assert 0 <= sent[0].pop("seconds") < 10
        assert sent == [{"key": "client-key", "storage_key": KEY, "status": 200, "kept": True}]

    def test_stored_later(self, engine: Engine, faulty: FaultyStore) -> None:
        """A response that the store did not take is stored as soon as it does."""
        claim = engine.claim(request())
        faulty.before["complete"] = [fail(StoreUnavailable("down"))]
        finish(engine, claim)
        until(lambda: not engine.worker.pending)
        assert isinstance(engine.claim(request()), Replay)
        assert faulty.calls.count("complete") == 2

    def test_stored_before_the_next_claim(self, threadless: Engine, faulty: FaultyStore) -> None:
        """A new claim of the key tries to store the pending response first."""
        claim = threadless.claim(request())
        faulty.before["complete"] = [fail(WriteRefused("out of memory"))]
        finish(threadless, claim)
        assert isinstance(threadless.claim(request(timeout=0)), Replay)

    def test_other_keys_are_not_held_up(self, threadless: Engine, faulty: FaultyStore) -> None:
        """A response that the store never takes delays requests of its own key only."""
        claim = threadless.claim(request())
        faulty.before["complete"] = [fail(StoreUnavailable("connection broke"))] * 2
        finish(threadless, claim)
        assert isinstance(threadless.claim(request(storage_key="IDEMPOTENT_{another}")), Claim)
        with pytest.raises(StoreUnavailable):
            threadless.claim(request())
        assert isinstance(threadless.claim(request()), Replay)

    def test_stored_when_the_process_leaves(self, threadless: Engine, faulty: FaultyStore) -> None:
        """A process that ends tries once more."""
        claim = threadless.claim(request())
        faulty.before["complete"] = [fail(StoreUnavailable("down"))]
        finish(threadless, claim)
        stored: list[str] = []
        faulty.before["complete"] = [lambda: stored.append("tried")]
        threadless.close()
        assert stored == ["tried"]

    def test_lost_at_the_end(
        self, threadless: Engine, faulty: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A response that the store never took is logged as lost when the process ends."""
        claim = threadless.claim(request())
        faulty.before["complete"] = [fail(StoreUnavailable("down"))] * 3
        finish(threadless, claim)
        threadless.close()
        assert f"is lost: record {KEY}: the process ends" in caplog.text

    def test_lost_after_expire(
        self, threadless: Engine, faulty: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """After expire it is logged as lost, and its claim is no longer renewed."""
        claim = threadless.claim(request(expire=0.01))
        faulty.before["complete"] = [fail(StoreUnavailable("down"))] * 2
        finish(threadless, claim)
        threading.Event().wait(0.02)
        threadless.worker.pending.run()
        assert not threadless.worker.pending
        assert not threadless.worker.renewals
        assert "is lost" in caplog.text

    def test_later_needs_no_lock(self, engine: Engine, faulty: FaultyStore) -> None:
        """A destructor, which interrupts any other code, waits for no lock."""
        claim = claimed(engine)
        with claim.lock, engine.worker._starting, engine.worker.pending._running, faulty._lock:
            engine.complete_later(claim, 200, (), None)
        until(lambda: claim.settled)
        replay = engine.claim(request())
        assert isinstance(replay, Replay)
        assert replay.completed.body is None

    def test_late_owner(self, engine: Engine, faulty: FaultyStore) -> None:
        """A late owner's response overwrites nothing, and the lost lease is reported."""
        sent: list[dict[str, object]] = []
        first = engine.claim(request())
        lapse(faulty, KEY)
        second = engine.claim(request())
        with signals.lease_lost.connected_to(lambda sender, **data: sent.append(data)):
            finish(engine, first, b"late")
        assert isinstance(first, Claim)
        assert not first.held
        assert sent == [
            {"key": "client-key", "storage_key": KEY, "owner": first.owner, "attempt": 1}
        ]
        finish(engine, second, b"in time")
        replay = engine.claim(request())
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"in time"

    def test_late_owner_whose_successor_fails(self, engine: Engine, faulty: FaultyStore) -> None:
        """A late owner's response is used when its successor fails: there is no third run."""
        first = engine.claim(request())
        lapse(faulty, KEY)
        second = engine.claim(request())
        finish(engine, first, b"late")
        assert isinstance(second, Claim)
        engine.release(second, "failed")
        replay = engine.claim(request())
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"late"

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_interrupted(self, engine: Engine, faulty: FaultyStore, moment: str) -> None:
        """After a web server's timeout in the middle, the response is stored in the background."""
        claim = engine.claim(request())
        getattr(faulty, moment)["complete"] = [fail(SystemExit())]  # type: ignore[arg-type]
        with pytest.raises(SystemExit):
            finish(engine, claim)
        until(lambda: isinstance(faulty.read(KEY), CompletedRecord) and not engine.worker.renewals)
        replay = engine.claim(request())
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"done"

    def test_once(self, engine: Engine, faulty: FaultyStore) -> None:
        """A claim is settled once; later calls change nothing."""
        claim = engine.claim(request())
        finish(engine, claim, b"first")
        finish(engine, claim, b"second")
        assert isinstance(claim, Claim)
        engine.release(claim, "failed")
        replay = engine.claim(request())
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"first"
        assert faulty.calls.count("complete") == 1

    def test_first_answer_stands(self, threadless: Engine, faulty: FaultyStore) -> None:
        """A later answer does not replace the first, even while that is pending."""
        claim = threadless.claim(request())
        faulty.before["complete"] = [fail(StoreUnavailable("down"))] * 2
        finish(threadless, claim, b"first")
        assert isinstance(claim, Claim)
        threadless.complete_later(claim, 500, (), None)
        with pytest.raises(StoreUnavailable):
            threadless.worker.pending.run()
        threadless.worker.pending.run()
        replay = threadless.claim(request())
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"first"


class TestRelease:
    def test_is_reported(self, engine: Engine) -> None:
        """A released claim is reported by a signal, with its reason."""
        sent: list[dict[str, object]] = []
        claim = claimed(engine)
        with signals.released.connected_to(lambda sender, **data: sent.append(data)):
            engine.release(claim, "not-stored")
        assert sent == [{"key": "client-key", "storage_key": KEY, "reason": "not-stored"}]
        assert isinstance(engine.claim(request(timeout=0)), Claim)

    def test_later(
        self, engine: Engine, faulty: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A release that the store did not take is reported and retried, its claim not renewed."""
        failed: list[object] = []
        claim = claimed(engine)
        faulty.before["release"] = [fail(StoreUnavailable("down"))]
        with signals.store_failed.connected_to(lambda s, operation, **_: failed.append(operation)):
            engine.release(claim, "failed")
        assert failed == ["release"]
        assert "the store failed to release: down" in caplog.text
        assert not engine.worker.renewals
        until(lambda: faulty.read(KEY) is None)

    @pytest.mark.parametrize(
        "give_up",
        [
            pytest.param(lambda engine, claim: engine.release(claim, "failed"), id="release"),
            pytest.param(lambda engine, claim: engine.hold(claim), id="hold"),
        ],
    )
    def test_interrupted(
        self, engine: Engine, faulty: FaultyStore, give_up: Callable[[Engine, Claim], object]
    ) -> None:
        """After a web server's timeout in the middle, the claim is released in the background."""
        claim = claimed(engine)
        faulty.before["release"] = [fail(SystemExit())]  # type: ignore[arg-type]
        with pytest.raises(SystemExit):
            give_up(engine, claim)
        assert not engine.worker.renewals
        until(lambda: faulty.read(KEY) is None)


class TestAbandon:
    def test_releases_the_key(self, engine: Engine, faulty: FaultyStore) -> None:
        """A claim whose view will not run is released in the background, and no longer renewed."""
        claim = claimed(engine)
        engine.abandon(claim)
        assert not engine.worker.renewals
        until(lambda: not engine.worker.pending)
        assert faulty.read(KEY) is None
        engine.abandon(claim)
        assert not engine.worker.pending

    def test_waits_for_a_renewal(self, threadless: Engine, faulty: FaultyStore) -> None:
        """A renewal that is under way does not restore a claim that is given up."""
        claim = claimed(threadless)
        threadless.abandon(claim)
        with ThreadPoolExecutor() as pool:
            with claim.lock:
                releasing = pool.submit(threadless.worker.pending.run)
                with pytest.raises(TimeoutError):
                    releasing.result(0.05)
                assert faulty.read(KEY) is not None
            releasing.result(5)
        assert faulty.read(KEY) is None
