"""Renewal: which leases are due, and what becomes of a renewal."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from flask_idempotent import signals
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import Replay, StillRunning
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.records import RunningRecord
from flask_idempotent.stores.base import Store
from tests.stores.harness import lapse
from tests.support.engines import KEY, claimed, finish, request
from tests.support.faulty_store import Clock, FaultyStore, fail
from tests.support.polling import until


class TestRenewals:
    def test_slow_view_keeps_its_claim(self, store: Store) -> None:
        """The lease of a slow view is renewed, so that a duplicate waits and does not run."""
        engine = Engine(store, None)
        claim = claimed(engine)
        lapse(store, KEY)
        claim.renewed -= 20
        engine.worker.wake()
        until(lambda: claim.renewed > claim.sent)
        assert isinstance(engine.claim(request(timeout=0)), StillRunning)
        assert claim.held
        finish(engine, claim)
        assert isinstance(engine.claim(request()), Replay)
        engine.close()

    def test_quick_view_costs_nothing(self, engine: Engine, faulty: FaultyStore) -> None:
        """A view that ends within a third of its lease is never renewed."""
        claim = claimed(engine)
        engine.worker.renewals.renew_due()
        finish(engine, claim)
        assert faulty.calls == ["claim", "complete"]

    def test_due_after_a_third(self, engine: Engine) -> None:
        """A claim is due when a third of its lease is over, counted from before it was sent."""
        claim = claimed(engine, lease=30.0)
        assert not claim.is_due(claim.sent + 9.9)
        assert claim.is_due(claim.sent + 10.1)

    def test_many_claims_one_command(self, engine: Engine, faulty: FaultyStore) -> None:
        """All claims that are due are renewed in one call."""
        claims = [claimed(engine, storage_key=f"IDEMPOTENT_{{{n}}}") for n in range(10)]
        for claim in claims:
            claim.renewed -= 20
        engine.worker.renewals.renew_due()
        assert faulty.calls.count("renew") == 1
        assert not any(claim.is_due(time.monotonic()) for claim in claims)

    def test_settled_claim_is_never_renewed(self, engine: Engine, faulty: FaultyStore) -> None:
        """The claim's lock keeps a renewal from overtaking a completion."""
        claim = claimed(engine)
        claim.renewed -= 20

        def meanwhile() -> None:
            engine.worker.renewals.renew_due()
            assert "renew" not in faulty.calls

        faulty.before["complete"] = [meanwhile]
        finish(engine, claim)
        claim.settled = True
        engine.worker.renewals.add(claim)
        engine.worker.renewals.renew_due()
        assert "renew" not in faulty.calls
        engine.worker.renewals.remove(claim)

    def test_released_claim_is_never_renewed(self, engine: Engine, faulty: FaultyStore) -> None:
        """A round that began before a release restores nothing after it."""
        claim = claimed(engine)
        engine.release(claim, "failed")
        claim.renewed -= 20
        engine.worker.renewals.add(claim)
        engine.worker.renewals.renew_due()
        assert "renew" not in faulty.calls
        engine.worker.renewals.remove(claim)

    def test_release_waits_for_a_renewal(
        self, engine: Engine, faulty: FaultyStore, background: Callable[..., Future[None]]
    ) -> None:
        """A release waits for a renewal that is under way, which would restore the claim."""
        claim = claimed(engine)
        claim.renewed -= 20
        releases: list[Future[None]] = []

        def meanwhile() -> None:
            releases.append(background(engine.release, claim, "failed"))
            with pytest.raises(TimeoutError):
                releases[0].result(0.1)

        faulty.before["renew"] = [meanwhile]
        engine.worker.renewals.renew_due()
        releases[0].result(5)
        assert faulty.calls == ["claim", "renew", "release"]
        assert faulty.read(KEY) is None

    def test_c9_max_run(
        self, engine: Engine, faulty: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C9: a view that runs longer than ``max_run`` is no longer renewed, and logged once."""
        claim = claimed(engine, key="a-key-that-is-long", max_run=60.0)
        claim.renewed -= 20
        engine.worker.renewals.renew_due()
        assert faulty.calls.count("renew") == 1
        claim.sent -= 61
        for _ in range(2):
            claim.renewed -= 20
            engine.worker.renewals.renew_due()
        assert faulty.calls.count("renew") == 1
        (record,) = [r for r in caplog.records if "max_run" in r.message]
        assert record.levelname == "WARNING"
        assert KEY in record.message
        assert "a-key-that" not in record.message
        claim.view_returned = True
        engine.worker.renewals.renew_due()
        assert faulty.calls.count("renew") == 2, "a streamed response is still renewed"

    def test_lost_lease_is_reported_once(
        self, engine: Engine, faulty: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A lost lease is reported once: a warning without the key, a signal, ``held`` false."""
        senders: list[object] = []
        claim = claimed(engine, key="a-key-that-is-long")
        lapse(faulty, KEY)
        successor = Engine(faulty, None)
        claimed(successor)
        with signals.lease_lost.connected_to(lambda sender, **data: senders.append(sender)):
            for _ in range(2):
                claim.renewed -= 20
                engine.worker.renewals.renew_due()
        assert senders == ["the app"]
        assert not claim.held
        (record,) = [r for r in caplog.records if "lease lost" in r.message]
        assert record.levelname == "WARNING"
        assert "a-key-th…" in record.message
        assert "a-key-that" not in record.message
        successor.close()

    def test_failed_renewal(
        self, engine: Engine, faulty: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A renewal that fails is logged and retried; the claim stays held."""
        failed: list[object] = []
        claim = claimed(engine)
        claim.renewed -= 20
        faulty.before["renew"] = [fail(StoreUnavailable("down"))]
        with signals.store_failed.connected_to(lambda s, operation, **_: failed.append(operation)):
            engine.worker.renewals.renew_due()
        assert failed == ["renew"]
        assert claim.held
        assert claim.is_due(time.monotonic())
        engine.worker.renewals.renew_due()
        assert not claim.is_due(time.monotonic())
        assert "failed to renew: down" in caplog.text

    def test_renewal_with_an_unknown_result(
        self,
        engine: Engine,
        faulty: FaultyStore,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """After a renewal with an unknown result, which is logged, the claim is held, and due."""
        claim = claimed(engine)
        claim.renewed -= 20
        monkeypatch.setattr(faulty, "renew", lambda renewals, restore_within_ms: [None])
        engine.worker.renewals.renew_due()
        assert claim.held
        assert claim.is_due(time.monotonic())
        assert "failed to renew: 1 of 1 leases may not be renewed" in caplog.text

    def test_lost_record_is_restored(self, engine: Engine, faulty: FaultyStore) -> None:
        """The next renewal restores a record that the store lost."""
        claim = claimed(engine)
        claim.renewed -= 20
        faulty.delete([KEY])
        engine.worker.renewals.renew_due()
        record = faulty.read(KEY)
        assert isinstance(record, RunningRecord)
        assert record.owner == claim.record.owner

    def test_late_renewal_restores_nothing(self, engine: Engine, faulty: FaultyStore) -> None:
        """A renewal that a stopped store carries out later restores nothing."""
        claim = claimed(engine)
        claim.renewed -= 20
        faulty.delete([KEY])
        clock = faulty.clock
        assert isinstance(clock, Clock)
        faulty.before["renew"] = [lambda: setattr(clock, "now", clock.now + 2)]
        engine.worker.renewals.renew_due()
        assert faulty.read(KEY) is None
