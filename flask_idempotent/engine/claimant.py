"""One request's way to an outcome: it claims its key, or waits for the request that has it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from flask_idempotent.engine.claims import Claim, ClaimRequest
from flask_idempotent.engine.outcomes import (
    FingerprintMismatch,
    Outcome,
    OutcomeUnknown,
    Replay,
    StillRunning,
)
from flask_idempotent.engine.worker import Worker
from flask_idempotent.errors import RecordUnreadable, StoreError, StoreUnavailable
from flask_idempotent.records import OWNER_SIZE, Completed, InProgress, Record, Released
from flask_idempotent.stores.base import Busy, Claimed, ClaimResult, ContendResult, Store

Result = TypeVar("Result")

#: Seconds after which a waiter looks for itself, whatever pub/sub does.
POLL_EVERY = 1.0
#: Seconds within which a silent store is known to be silent.
_TOLD_WITHIN = 2.0
#: Seconds within which a store that has just answered is known to have fallen silent.
_REPLY_WITHIN = 0.9
#: How often a claim is renewed before its view runs, where the store is slow: not for ever.
_RENEWALS = 3
#: Seconds that a waiter gives its subscription before it relies on looking for itself.
_LISTEN_WITHIN = 0.5

_HOST = socket.gethostname()


class Claimant:
    """One request that wants its key.

    :param store: where records live.
    :param worker: renews the claim that is made, and releases one that is not used.
    :param request: what the request asks.
    """

    def __init__(self, store: Store, worker: Worker, request: ClaimRequest) -> None:
        self._store = store
        self._worker = worker
        self._request = request
        self._began_waiting: float | None = None
        self._owner = os.urandom(OWNER_SIZE)
        self._uncertain = False
        self._claim_held: Claim | None = None

    def claim(self) -> Outcome:
        """Claim the key if it is free, else say what has it; that may be waited for."""
        return self._negotiate(self._claim)

    def contend(self) -> Outcome:
        """Claim the key if its owner gave up or died, else say how long the lease lasts."""
        return self._negotiate(self._contend)

    def _negotiate(self, ask: Callable[[InProgress], ClaimResult | ContendResult]) -> Outcome:
        request = self._request
        replaced: bytes | None = None
        while True:
            record = InProgress(
                self._owner, request.fingerprint, 1, request.settings.grace_ms,
                _HOST, os.getpid(), time.time(), request.method, request.endpoint,
            )  # fmt: skip
            sent = time.monotonic()
            result = ask(record)
            if not isinstance(result, Claimed):
                replaced = self._correctable(result, replaced)
                if replaced is None:
                    return self._judge(result)
                ask = partial(self._contend, replaces=replaced)
                continue
            if result.attempt > 1:
                record = record._replace(attempt=result.attempt, first_attempt=result.first_attempt)
            claim = Claim(request, record, sent, dead=result.dead)
            if self._still_holds(claim):
                self._claim_held = claim
                self._worker.keep(claim)
                self._uncertain = False
                return claim

    def _still_holds(self, claim: Claim) -> bool:
        # A reply may come so late that what it says is over, a renewal's as well as a claim's.
        for _ in range(_RENEWALS):
            if not claim.is_due(time.monotonic()):
                return True
            if not self._worker.renewals.renew_now(claim):
                return False
        if claim.has_lapsed(time.monotonic()):
            raise StoreUnavailable("it takes longer to answer than a lease lasts")
        return True

    def _correctable(self, result: Busy | Record, replaced: bytes | None) -> bytes | None:
        # The owner of the answer whose place this request takes, where it may.
        if not isinstance(result, Completed) or result.fingerprint == self._request.fingerprint:
            return None
        if result.operation == b"" or result.operation != self._request.operation():
            return None
        # Whoever has waited for the answer to its own request corrects nothing.
        may = self._began_waiting is None and result.owner != replaced
        return result.owner if may else None

    def _claim(self, record: InProgress) -> ClaimResult | ContendResult:
        request = self._request
        result = self._ask(
            partial(
                self._store.claim,
                request.storage_key,
                record,
                ttl_ms=request.settings.running_ttl_ms,
            )
        )
        if isinstance(result, InProgress) and result.owner == self._owner:
            # The reply to our first sending was lost.
            self._uncertain = True
            return self._contend(record)
        if isinstance(result, Released):
            return self._contend(record)
        return result

    def _contend(self, record: InProgress, replaces: bytes | None = None) -> ContendResult:
        request = self._request
        return self._ask(
            partial(
                self._store.contend,
                request.storage_key,
                record,
                ttl_ms=request.settings.running_ttl_ms,
                takeover=request.settings.takeover,
                replaces=replaces,
            )
        )

    def _ask(self, ask: Callable[[], Result]) -> Result:
        before, self._uncertain = self._uncertain, True
        try:
            result = ask()
        except StoreError as error:
            self._uncertain = before or error.sent
            raise
        except RecordUnreadable:
            self._uncertain = False  # What stands there is not ours.
            raise
        # Any result other than Claimed means that the store holds nothing under our token.
        self._uncertain = isinstance(result, Claimed)
        return result

    def _judge(self, result: Busy | Record) -> Outcome:
        if result.fingerprint != self._request.fingerprint:
            return FingerprintMismatch()
        if isinstance(result, Completed):
            return Replay(result, self._waited())
        if not isinstance(result, Busy):
            return StillRunning(None, started=result.started)
        if result.lease_left_ms <= 0 and not self._request.settings.takeover:
            return OutcomeUnknown()
        return StillRunning(max(0.001, result.lease_left_ms / 1000), self._waited(), result.started)

    def _waited(self) -> float:
        return 0.0 if self._began_waiting is None else time.monotonic() - self._began_waiting

    def wait(self, outcome: Outcome) -> Outcome:
        """Wait until the other is done, gives up or dies, or until the time is over.

        :param outcome: of the look before.
        """
        self._began_waiting = time.monotonic()
        timeout = self._request.settings.timeout
        until = self._began_waiting + timeout
        listening = min(_LISTEN_WITHIN, timeout)
        failure: StoreError | None = None
        with self._store.listen(self._request.storage_key, listening) as bell:
            bell.looks_until = until - _REPLY_WITHIN
            # This look, once the subscription stands, closes the gap before it. Where that takes
            # long, the store may be silent.
            looks = bell.may_look or not bell.unsure
            while True:
                if looks:
                    outcome, failure = self._look()
                looks = True
                if not isinstance(outcome, StillRunning):
                    return outcome
                patience = until - time.monotonic()
                if patience > 0:
                    if bell.leads or failure is not None:
                        pause = _until_the_next_look(patience, outcome.left)
                    else:
                        pause = _until_the_last_look(patience)
                    completed = bell.wait(pause)
                    if completed is not None:
                        return self._judge(completed)
                if time.monotonic() >= until:
                    if failure is not None:
                        raise failure
                    return outcome._replace(waited=self._waited())

    def _look(self) -> tuple[Outcome, StoreError | None]:
        try:
            return self.contend(), None
        except StoreError as error:
            # The store may be back before our time is over.
            return StillRunning(None), error

    def release_if_uncertain(self) -> None:
        """Give back a claim that the store may have noted without our knowing."""
        if self._uncertain:
            self._worker.release_later(self._request, self._owner)

    def abandon(self) -> None:
        """Give back whatever was claimed: nobody will run."""
        if self._claim_held is not None:
            self._worker.abandon(self._claim_held)
        else:
            self.release_if_uncertain()


def _until_the_next_look(patience: float, left: float | None) -> float:
    if left is None:
        # The store failed. It is not asked more often for a lease that may be over; and it may have
        # fallen silent, so that the last look must begin in time.
        return POLL_EVERY if patience > POLL_EVERY + _TOLD_WITHIN else patience
    return min(POLL_EVERY, _until_the_last_look(patience), left)


def _until_the_last_look(patience: float) -> float:
    # The store may fall silent: the last look comes so early that it is known before our time is
    # over.
    return patience - _REPLY_WITHIN if patience > POLL_EVERY else patience
