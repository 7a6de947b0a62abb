"""Following: a request whose run has lost its key waits for the run that has it."""

from __future__ import annotations

from flask_idempotent.engine.claimant import Claimant
from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import Outcome, StillRunning, Vacant
from flask_idempotent.records import CompletedRecord, RunningRecord
from flask_idempotent.stores.base import Busy


def follow(engine: Engine, claim: Claim) -> Outcome:
    """Wait, as a duplicate does, for the run that has the key of a lost claim.

    The claim is neither completed nor released: the key is not its own any more.

    :returns: what the request gets. It is never a claim: its view has run in part, and another run
        may be doing the rest.
    :raises StoreError: when the store does not say what has the key.
    :raises RecordUnreadable: when the key's record has damaged bytes.
    """
    engine.forget(claim)
    follower = _Follower(engine.store, engine.worker, claim.request, owner=claim.record.owner)
    outcome = follower.contend()
    if isinstance(outcome, StillRunning):
        return engine.wait(follower, outcome, claim.request)
    return outcome


class _Follower(Claimant):
    """Looks at its key as a claimant does, and never claims it.

    Its owner token is that of the lost claim.
    """

    def contend(self) -> Outcome:
        request = self._request
        record = self._store.read(request.storage_key)
        if isinstance(record, RunningRecord) and record.owner != self._owner:
            # The store does not say how long its lease lasts, which is no longer than this.
            busy = Busy(record.fingerprint, request.settings.lease_ms, record.started, record.held)
            return self._outcome_of(busy)
        return self._outcome_of(record) if isinstance(record, CompletedRecord) else Vacant()
