"""One request's way to an outcome: it claims its key, or waits for the request that has it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from flask_idempotent import _timing
from flask_idempotent.engine.claims import Claim, ClaimRequest, new_record
from flask_idempotent.engine.outcomes import (
    FingerprintMismatch,
    Outcome,
    OutcomeUnknown,
    Replay,
    StillRunning,
)
from flask_idempotent.engine.pauses import pause_before_last_poll, pause_before_poll
from flask_idempotent.engine.worker import Worker
from flask_idempotent.errors import RecordUnreadable, StoreError, StoreUnavailable
from flask_idempotent.records import (
    OWNER_SIZE,
    CompletedRecord,
    Record,
    ReleasedRecord,
    RunningRecord,
)
from flask_idempotent.stores.base import Busy, Claimed, ClaimResult, ContendResult, Store

Result = TypeVar("Result")

#: A claim whose replies are slow is renewed at most this often before its view runs anyway.
_MOST_RENEWALS = 3


class Claimant:
    """One request that wants its key.

    :param store: where records live.
    :param worker: renews the claim that is made, and releases one that is not used.
    :param request: what the request asks.
    :param owner: its owner token; None for a new one.
    """

    def __init__(
        self, store: Store, worker: Worker, request: ClaimRequest, owner: bytes | None = None
    ) -> None:
        self._store = store
        self._worker = worker
        self._request = request
        self._owner = owner or os.urandom(OWNER_SIZE)
        self._claim: Claim | None = None
        #: Whether the store may hold a claim under our token that we do not know of.
        self._may_hold_claim = False
        self._began_waiting: float | None = None

    def claim(self) -> Outcome:
        """Claim the key if it is free, or return what holds it; this costs one cheap command.

        :returns: ``StillRunning`` without a lease where the key may also be free to take over.
        :raises StoreError: when the store does not do it.
        :raises RecordUnreadable: when the key's record has damaged bytes.
        """
        return self._negotiate(contends=False)

    def contend(self) -> Outcome:
        """Claim the key if its owner gave up or died, or return how long its lease lasts.

        :raises StoreError: when the store does not do it.
        :raises RecordUnreadable: when the key's record has damaged bytes.
        """
        return self._negotiate(contends=True)

    def _negotiate(self, *, contends: bool) -> Outcome:
        replaces: bytes | None = None
        while True:
            record = new_record(self._request, self._owner)
            sent = time.monotonic()
            if contends:
                result: ClaimResult | ContendResult = self._send_contend(record, replaces)
            else:
                result = self._send_claim(record)
            if isinstance(result, Claimed):
                claim = self._accept(result, record, sent)
                if claim is not None:
                    return claim
                continue
            replaces = self._owner_to_replace(result, replaces)
            if replaces is None:
                return self._outcome_of(result)
            contends = True

    def _send_claim(self, record: RunningRecord) -> ClaimResult | ContendResult:
        result = self._send(self._store.claim, record)
        if isinstance(result, RunningRecord) and result.owner == self._owner:
            # The store sent the command again because its first reply was lost.
            self._may_hold_claim = True
            return self._send_contend(record)
        is_held = isinstance(result, RunningRecord) and result.held
        if is_held or isinstance(result, ReleasedRecord):
            return self._send_contend(record)
        return result

    def _send_contend(self, record: RunningRecord, replaces: bytes | None = None) -> ContendResult:
        settings = self._request.settings
        return self._send(
            self._store.contend,
            record,
            takeover=settings.takeover,
            replaces=replaces,
            decides=settings.decides,
        )

    def _send(
        self, command: Callable[..., Result], record: RunningRecord, **options: Any
    ) -> Result:
        request = self._request
        held_before, self._may_hold_claim = self._may_hold_claim, True
        try:
            result = command(
                request.storage_key, record, ttl_ms=request.settings.running_ttl_ms, **options
            )
        except StoreError as error:
            self._may_hold_claim = held_before or error.sent
            raise
        except RecordUnreadable:
            self._may_hold_claim = False  # The record there is not ours.
            raise
        # Any result other than Claimed means that the store holds nothing under our token.
        self._may_hold_claim = isinstance(result, Claimed)
        return result

    def _accept(self, claimed: Claimed, record: RunningRecord, sent: float) -> Claim | None:
        """Keep what the store has claimed for us, unless its reply came after the lease."""
        if claimed.attempt > 1:
            record = _as_claimed(record, claimed, decides=self._request.settings.decides)
        claim = Claim(self._request, record, sent, dead_record=claimed.dead)
        if not self._still_holds(claim):
            return None
        self._claim = claim
        self._worker.keep(claim)
        self._may_hold_claim = False
        return claim

    def _still_holds(self, claim: Claim) -> bool:
        # The reply to a renewal may come too late as well.
        for _ in range(_MOST_RENEWALS):
            if not claim.is_due(time.monotonic()):
                return True
            if not self._worker.renewals.renew_now(claim):
                return False
        if claim.has_lapsed(time.monotonic()):
            raise StoreUnavailable(
                "it takes longer to answer than a lease lasts: make the store faster or the lease "
                f"longer than {claim.request.settings.lease:g} s"
            )
        return True

    def _owner_to_replace(self, result: Busy | Record, replaced: bytes | None) -> bytes | None:
        """The owner of the stored response that this request, a corrected one, may replace.

        :param replaced: the owner that the last command was to replace.
        """
        if (
            not isinstance(result, CompletedRecord)
            or result.fingerprint == self._request.fingerprint
        ):
            return None
        if not self._request.may_correct(result):
            return None
        # A request that has waited for the response to its own payload corrects nothing.
        may_replace = self._began_waiting is None and result.owner != replaced
        return result.owner if may_replace else None

    def begin(self, claim: Claim) -> Outcome:
        """Begin the run of a claim whose owner has decided that its view runs.

        :returns: the claim; or what has the key since then.
        :raises StoreError: when the store does not do it.
        """
        while True:
            with claim.lock:
                record, sent = new_record(self._request, self._owner), time.monotonic()
                # The decision is about the run that died, not about what others did since.
                result = self._send(self._store.contend, record, takeover=False)
                if isinstance(result, Claimed):
                    claim.record = _as_claimed(record, result, decides=False)
                    claim.renewed = sent
            if not isinstance(result, Claimed):
                return self._outcome_of(result)
            if self._still_holds(claim):
                return claim

    def _outcome_of(self, result: Busy | Record) -> Outcome:
        if result.fingerprint != self._request.fingerprint:
            return FingerprintMismatch()
        if isinstance(result, CompletedRecord):
            return Replay(result, self._waited())
        if not isinstance(result, Busy):
            return StillRunning(None, started=result.started)
        lease_left = max(0.001, result.lease_left_ms / 1000)
        takeover = self._request.settings.takeover
        if result.held and takeover and result.lease_left_ms > 0:
            return OutcomeUnknown(lease_left)
        if result.held or (result.lease_left_ms <= 0 and not takeover):
            return OutcomeUnknown()
        return StillRunning(lease_left, self._waited(), result.started)

    def _waited(self) -> float:
        return 0.0 if self._began_waiting is None else time.monotonic() - self._began_waiting

    def wait(self, outcome: Outcome) -> Outcome:
        """Wait until the other request completes, gives up or dies, or until the timeout.

        :param outcome: the outcome of the claim before.
        :raises StoreError: when the store still fails at the timeout.
        :raises RecordUnreadable: when the key's record has damaged bytes.
        """
        self._began_waiting = time.monotonic()
        timeout = self._request.settings.timeout
        deadline = self._began_waiting + timeout
        subscribe_timeout = min(_timing.SUBSCRIBE_TIMEOUT, timeout)
        with self._store.listen(self._request.storage_key, subscribe_timeout) as waiter:
            waiter.polls_until = deadline - _timing.REPLY_TIMEOUT
            failure: StoreError | None = None
            # Once the waiter is subscribed, a poll covers the time before that. A store that did
            # not confirm the subscription may be silent: poll it only where there is time.
            if waiter.may_poll or not waiter.may_have_missed:
                outcome, failure = self._poll()
            while isinstance(outcome, StillRunning):
                remaining = deadline - time.monotonic()
                if remaining > 0:
                    if waiter.is_leader or failure is not None:
                        pause = pause_before_poll(remaining, outcome.lease_left)
                    else:
                        pause = pause_before_last_poll(remaining)
                    completed = waiter.wait(pause)
                    if completed is not None:
                        return self._outcome_of(completed)
                if time.monotonic() >= deadline:
                    if failure is not None:
                        raise failure
                    return outcome._replace(waited=self._waited())
                outcome, failure = self._poll()
            return outcome

    def _poll(self) -> tuple[Outcome, StoreError | None]:
        try:
            return self.contend(), None
        except StoreError as error:
            # The store may be back before the timeout.
            return StillRunning(None), error

    def release_if_uncertain(self) -> None:
        """Release, in the background, a claim that the store may hold without our knowing."""
        if self._may_hold_claim:
            self._worker.release_unknown(self._request, self._owner)

    def abandon(self) -> None:
        """Release, in the background, the claim that was made, or that may have been made."""
        if self._claim is not None:
            self._worker.abandon(self._claim)
        else:
            self.release_if_uncertain()


def _as_claimed(record: RunningRecord, claimed: Claimed, *, decides: bool) -> RunningRecord:
    """The record as the store has it."""
    if decides and claimed.dead is not None:
        record = record.decide_about(claimed.dead)
    return record._replace(attempt=claimed.attempt, first_attempt=claimed.first_attempt)
