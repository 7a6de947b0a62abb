"""Attempts: one request's way to an outcome, alone or waiting for another."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

from flask_idempotent.engine.claims import Claim, Order
from flask_idempotent.engine.outcomes import Mismatch, Outcome, Replay, Unknown, Waiting
from flask_idempotent.errors import RecordUnreadable, StoreError, StoreUnavailable
from flask_idempotent.records import OWNER_SIZE, Completed, InProgress
from flask_idempotent.stores.base import Busy, Claimed, Reply, Reused

if TYPE_CHECKING:
    from flask_idempotent.engine.engine import Engine

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


class Attempt:
    """One request's way to an outcome.

    :param engine: the engine.
    :param order: what the request asks.
    """

    def __init__(self, engine: Engine, order: Order) -> None:
        self._engine = engine
        self._order = order
        self._began_waiting: float | None = None
        self._owner = os.urandom(OWNER_SIZE)
        self._uncertain = False
        self._claim: Claim | None = None

    def claim(self, *, quick: bool = False) -> Outcome:
        """Ask the store once.

        :param quick: whether another look follows where the key is another's.
        """
        order = self._order
        replaces: bytes | None = None
        while True:
            record = InProgress(
                self._owner, order.fingerprint, 1, order.terms.grace_ms,
                _HOST, os.getpid(), time.time(), order.method, order.endpoint,
            )  # fmt: skip
            sent = time.monotonic()
            reply = self._ask(record, quick, replaces)
            if not isinstance(reply, Claimed):
                replaces = self._correctable(reply, replaces)
                if replaces is None:
                    return self._judge(reply)
                continue
            if reply.attempt > 1:
                record = record._replace(attempt=reply.attempt, first_attempt=reply.first_attempt)
            claim = Claim(order, record, sent, dead=reply.dead)
            if self._still_holds(claim):
                self._claim = claim
                self._engine.keep(claim)
                self._uncertain = False
                return claim

    def _still_holds(self, claim: Claim) -> bool:
        # A reply may come so late that what it says is over, a renewal's as well as a claim's.
        for _ in range(_RENEWALS):
            if not claim.is_due(time.monotonic()):
                return True
            if not self._engine.is_held(claim):
                return False
        if time.monotonic() - claim.renewed >= self._order.terms.lease:
            raise StoreUnavailable("it takes longer to answer than a lease lasts")
        return True

    def _correctable(
        self, reply: Busy | Reused | Completed, replaced: bytes | None
    ) -> bytes | None:
        # The owner of the answer whose place this request takes, where it may.
        if reply.fingerprint == self._order.fingerprint or isinstance(reply, Busy):
            return None
        if reply.operation == b"" or reply.operation != self._order.operation():
            return None
        # Whoever has waited for the answer to its own request corrects nothing.
        may = self._began_waiting is None and reply.owner != replaced
        return reply.owner if may else None

    def _ask(self, record: InProgress, quick: bool, replaces: bytes | None) -> Reply:
        order, terms = self._order, self._order.terms
        before, self._uncertain = self._uncertain, True
        try:
            reply = self._engine.store.claim(
                order.key,
                record,
                expire=terms.lifetime_ms,
                takeover=terms.takeover,
                quick=quick,
                replaces=replaces,
            )
        except StoreError as error:
            self._uncertain = before or error.sent
            raise
        except RecordUnreadable:
            self._uncertain = False  # What stands there is not ours.
            raise
        # Whatever the store answered, it is the last word on this token, but for a claim.
        self._uncertain = isinstance(reply, Claimed)
        return reply

    def _judge(self, reply: Busy | Reused | Completed) -> Outcome:
        if isinstance(reply, Reused) or reply.fingerprint != self._order.fingerprint:
            return Mismatch()
        if isinstance(reply, Completed):
            return Replay(reply, self._waited())
        if reply.left is None:
            return Waiting(None, started=reply.started)
        if reply.left <= 0 and not self._order.terms.takeover:
            return Unknown()
        return Waiting(max(0.001, reply.left / 1000), self._waited(), reply.started)

    def _waited(self) -> float:
        return 0.0 if self._began_waiting is None else time.monotonic() - self._began_waiting

    def wait(self, outcome: Outcome) -> Outcome:
        """Wait until the other is done, gives up or dies, or until the time is over.

        :param outcome: of the look before.
        """
        self._began_waiting = time.monotonic()
        timeout = self._order.terms.timeout
        until = self._began_waiting + timeout
        listening = min(_LISTEN_WITHIN, timeout)
        failure: StoreError | None = None
        with self._engine.store.listen(self._order.key, listening) as bell:
            bell.looks_until = until - _REPLY_WITHIN
            # This look, once the subscription stands, closes the gap before it. Where that takes
            # long, the store may be silent.
            looks = bell.may_look or not bell.unsure
            while True:
                if looks:
                    outcome, failure = self._look()
                looks = True
                if not isinstance(outcome, Waiting):
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
            return self.claim(), None
        except StoreError as error:
            # The store may be back before our time is over.
            return Waiting(None), error

    def forget(self) -> None:
        """Give back a claim that the store may have noted without our knowing."""
        if self._uncertain:
            self._engine.forget(self._order, self._owner)

    def abandon(self) -> None:
        """Give back whatever was claimed: nobody will run."""
        if self._claim is not None:
            self._engine.abandon(self._claim)
        else:
            self.forget()


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
