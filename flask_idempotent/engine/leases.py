"""Leases: the claims this process owns, and the thread that looks after them.

The keeper renews the claims of views that take long, and goes on with what the store did not take
at once: storing a response whose view has run, and releasing a claim that nobody will use.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from flask_idempotent import signals
from flask_idempotent._forks import ProcessBound
from flask_idempotent._lines import logger
from flask_idempotent.engine.claims import Claim, Order
from flask_idempotent.errors import StoreError, StoreUnavailable
from flask_idempotent.http.keys import shortened
from flask_idempotent.stores.base import Store

#: A renewal that a stopped server carries out later than after so many milliseconds must not revive
#: a record.
_RENEWAL_VALID = 800
#: Seconds between two tries to bring the store what it did not take.
RETRY_EVERY = 1.0
#: The same while the process ends, which has nothing else to do.
LINGER_EVERY = 0.2


@dataclass(eq=False, slots=True)
class _Task:
    """Something that the store has yet to take.

    :param key: name of the record that it is about.
    :param run: does it, or raises ``StoreError``.
    :param until: monotonic time when it is of no more use.
    :param give_up: called then.
    """

    key: str
    run: Callable[[], object]
    until: float
    give_up: Callable[[str], None]


def release_in_store(store: Store, order: Order, owner: bytes) -> None:
    """Tell the store that the run with this owner token has given its key up."""
    terms = order.terms
    store.release(order.key, owner, expire=terms.expire_ms, tombstone_ttl_ms=terms.lifetime_ms)


class Keeper(ProcessBound):
    """Looks after the claims of this process, in one thread that starts with the first claim.

    :param store: where the claims are.
    :param sender: the sender of signals.
    """

    def __init__(self, store: Store, sender: object) -> None:
        self._store = store
        self._sender = sender
        super().__init__()

    def reset(self) -> None:
        self._claims: dict[int, Claim] = {}
        self._tasks: list[_Task] = []
        self._lock = threading.Lock()
        self._working = threading.Lock()
        # Unlike an event, it may be rung by a destructor in the midst of anything.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._shortest = float("inf")
        self._asleep = False
        #: Whether a claim came since the last tick.
        self._used = False
        self._closing = False

    @property
    def has_tasks(self) -> bool:
        """Whether the store has yet to take something."""
        return bool(self._tasks)

    def add(self, claim: Claim) -> None:
        """Look after a claim until it is removed."""
        self._claims[id(claim)] = claim
        self._used = True
        if self._asleep or self._thread is None or claim.order.terms.lease < self._shortest:
            self._shortest = min(self._shortest, claim.order.terms.lease)
            try:
                self._rouse()
            except RuntimeError:
                # The system has no more threads. Nobody uses this claim, so nobody may renew it.
                self.remove(claim)
                raise

    def remove(self, claim: Claim) -> None:
        """Stop looking after a claim."""
        self._claims.pop(id(claim), None)

    def retry(
        self, key: str, run: Callable[[], object], seconds: float, give_up: Callable[[str], None]
    ) -> None:
        """Go on trying something for so many seconds.

        :param key: name of the record that it is about.
        :param give_up: told why, when the store never took it.
        """
        if sys.is_finalizing():
            # A destructor at the very end. A thread would not start any more, and its starter hang.
            give_up("the process ends")
            return
        # Without a lock: a destructor may interrupt whoever holds it.
        self._tasks.append(_Task(key, run, time.monotonic() + seconds, give_up))
        self._rouse()

    def release_later(self, order: Order, owner: bytes) -> None:
        """Release, in the background, a claim that the store may have noted without our knowing."""
        self._release_later(order, lambda: release_in_store(self._store, order, owner))

    def abandon(self, claim: Claim) -> None:
        """Release, in the background, a claim whose view will not run."""
        if claim.settled:
            return
        claim.settled = True
        self.remove(claim)

        def release() -> None:
            # A renewal may be under way, which must not put it back.
            with claim.lock:
                release_in_store(self._store, claim.order, claim.record.owner)

        self._release_later(claim.order, release)

    def _release_later(self, order: Order, release: Callable[[], None]) -> None:
        self.retry(order.key, release, order.terms.expire, lambda _: None)

    def _rouse(self) -> None:
        self._asleep = False
        if self._thread is None:
            self._start()
        self._wake.put(None)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="flask-idempotent-keeper", daemon=True
                )
                try:
                    self._thread.start()
                except RuntimeError:
                    self._thread = None
                    raise

    def _run(self) -> None:
        while not self._closing:
            try:
                self._wake.get(timeout=self._pause())
            except queue.Empty:
                self._used = False
            if self._closing:
                return
            try:
                self.renew_due()
                self.work_off()
            except StoreUnavailable:
                continue
            except Exception:
                logger.exception("looking after claims failed; it goes on")

    def _pause(self) -> float | None:
        if self._tasks:
            return min(RETRY_EVERY, self._shortest / 6)
        if self._claims or self._used:
            # Rather a useless tick than a wake-up for every claim: sleep for good only when idle.
            return self._shortest / 6
        self._asleep = True
        return self._shortest / 6 if self._claims else None

    def renew_due(self) -> None:
        """Renew every claim whose lease is a third over."""
        now = time.monotonic()
        due = [claim for claim in list(self._claims.values()) if claim.is_due(now)]
        held = [claim for claim in due if claim.lock.acquire(blocking=False)]
        try:
            live = [c for c in held if not c.settled and c.held and not self._overran(c, now)]
            if live:
                self._renew(live)
        except StoreError as error:
            self.tell_failure("renew", error)
        finally:
            for claim in held:
                claim.lock.release()

    def _overran(self, claim: Claim, now: float) -> bool:
        if not claim.has_overrun(now):
            return False
        if not claim.overran:
            claim.overran = True
            logger.warning(
                "max_run is over: key %s, record %s, attempt %d still runs, and its lease is "
                "renewed no more; a second run may overlap",
                shortened(claim.key), claim.order.key, claim.attempt,
            )  # fmt: skip
        return True

    def renew(self, claim: Claim) -> bool:
        """Renew one claim now.

        :returns: whether the store says that it is still ours.
        :raises StoreError: when the store does not answer.
        """
        with claim.lock:
            (ours,) = self._renew([claim])
        return bool(ours)

    def _renew(self, claims: list[Claim]) -> list[bool | None]:
        sent = time.monotonic()
        until = self._store.now() + _RENEWAL_VALID
        replies = self._store.renew([claim.renewal() for claim in claims], until=until)
        for claim, ours in zip(claims, replies, strict=True):
            if ours:
                claim.renewed = sent
            elif ours is False and not claim.answered:
                self.lose(claim)
        return replies

    def lose(self, claim: Claim) -> None:
        """Note and tell that a claim is another's by now."""
        if not claim.held:
            return
        claim.held = False
        logger.warning(
            "lease lost: key %s, record %s, attempt %d ran longer than its lease could be renewed",
            shortened(claim.key), claim.order.key, claim.attempt,
        )  # fmt: skip
        signals.tell(
            signals.lease_lost,
            self._sender,
            key=claim.key,
            storage_key=claim.order.key,
            owner=claim.owner,
            attempt=claim.attempt,
        )

    def tell_failure(self, operation: str, error: StoreError) -> None:
        """Log and signal that the store failed."""
        logger.error("the store failed to %s: %s", operation, error)
        signals.tell(signals.store_failed, self._sender, operation=operation, error=error)

    def work_off(self, key: str | None = None) -> None:
        """Try once more what the store has yet to take; what it takes is done.

        :param key: name of the one record that matters now; None for all of them.
        :raises StoreUnavailable: when the store is still dead, so that nothing more is tried.
        """
        if not self._tasks or not self._working.acquire(blocking=False):
            return
        try:
            for task in list(self._tasks):
                if key in (None, task.key):
                    self._try(task)
        finally:
            self._working.release()

    def _try(self, task: _Task) -> None:
        try:
            task.run()
        except StoreError as error:
            if time.monotonic() < task.until:
                # It may be this one alone that breaks the connection: next time others come first.
                self._tasks.append(task)
                self._tasks.remove(task)
                if isinstance(error, StoreUnavailable):
                    raise
                return
            task.give_up(str(error))
        except Exception as error:
            # One that can never succeed must not stand in the others' way.
            logger.exception("what the store has yet to take cannot be taken")
            task.give_up(str(error))
        self._tasks.remove(task)

    def close(self, until: float = 0.0) -> None:
        """Try what is left once more, log what is lost, and end the thread.

        :param until: monotonic time until which to go on trying.
        """
        with self._lock:
            thread, self._closing = self._thread, True
        self._wake.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        try:
            self._linger(until)
        finally:
            for task in self._tasks:
                task.give_up("the process ends")
            self.reset()

    def _linger(self, until: float) -> None:
        with suppress(StoreUnavailable):
            self.work_off()
        if not self._tasks or until <= time.monotonic():
            return
        logger.warning(
            "the process ends, and for up to %.1f s it goes on trying to write what the store has "
            "not taken: records %s",
            until - time.monotonic(), ", ".join(task.key for task in self._tasks),
        )  # fmt: skip
        while self._tasks and (left := until - time.monotonic()) > 0:
            time.sleep(min(LINGER_EVERY, left))
            with suppress(StoreUnavailable):
                self.work_off()
                # One that takes no response may still be told that its claim is held.
                self.renew_due()
