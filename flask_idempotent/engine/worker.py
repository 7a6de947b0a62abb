"""The worker: one background thread for each process, which renews leases and retries writes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from flask_idempotent import _timing
from flask_idempotent._forks import ForkAware
from flask_idempotent._logging import logger
from flask_idempotent.engine.claims import Claim, ClaimRequest
from flask_idempotent.engine.pending import PendingWrite, PendingWrites
from flask_idempotent.engine.renewal import Renewals
from flask_idempotent.engine.reports import Reports
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.stores.base import Store

#: What makes a lock wait without a timeout.
_NO_TIMEOUT = -1.0
_PROCESS_ENDS = "the process ends"


class Worker(ForkAware):
    """Renews the claims of this process, and retries the writes that the store did not accept.

    The thread starts with the first claim.

    :param store: where the claims are.
    :param reports: logs and signals lost leases and failed renewals.
    """

    def __init__(self, store: Store, reports: Reports) -> None:
        self._store = store
        self._reports = reports
        super().__init__()

    def reset(self) -> None:
        self.renewals = Renewals(self._store, self._reports)
        self.pending = PendingWrites()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        # Locked while the thread need not wake up. A destructor, which interrupts any other code,
        # may release it, but may not set an event. A queue does not work either: CPython 3.13 links
        # the threads that wait for it through their stacks, which are gone in a forked child.
        # Python's hooks for forks repair this, but uWSGI does not run them.
        self._wake_up = threading.Lock()
        self._wake_up.acquire()
        self._shortest_lease = float("inf")
        self._asleep = False
        #: Whether a claim came since the last round.
        self._in_use = False
        self._closing = False

    def keep(self, claim: Claim) -> None:
        """Renew a claim until it is removed from ``renewals``.

        :raises RuntimeError: when the system has no thread left; the claim is not renewed then.
        """
        lease = claim.request.settings.lease
        self.renewals.add(claim)
        self._in_use = True
        if self._asleep or self._thread is None or lease < self._shortest_lease:
            self._shortest_lease = min(self._shortest_lease, lease)
            try:
                self.wake()
            except RuntimeError:
                self.renewals.remove(claim)
                raise

    def write_later(
        self,
        storage_key: str,
        write: Callable[[], object],
        seconds: float,
        on_lost: Callable[[str], None],
    ) -> None:
        """Retry a write in the background, without waiting for any lock.

        :param storage_key: the record that it is about.
        :param write: writes, or raises ``StoreError``.
        :param seconds: how long it is worth retrying.
        :param on_lost: called with the reason when the store never accepted it.
        """
        if sys.is_finalizing():
            # A destructor at the very end: no thread starts any more, and starting one would hang.
            on_lost(_PROCESS_ENDS)
            return
        self.pending.add(PendingWrite(storage_key, write, time.monotonic() + seconds, on_lost))
        self.wake()

    def release(self, claim: Claim, *, holds: bool = False) -> None:
        """Release a claim in the store, now.

        :param holds: whether its owner, which was to decide, holds the key.
        :raises StoreError: when the store does not do it.
        """
        steps = claim.steps if claim.held else None
        if steps is not None:
            steps.save()
        release = partial(
            self._release,
            claim.request,
            claim.record.owner,
            holds=holds,
            has_steps=claim.has_steps,
            unstarted="" if claim.steps is None else claim.steps.unstarted,
        )
        # Without a record, the next run would not ask for the steps. Where there are none, this
        # command was sent twice, and the record must not come back.
        if not release() and steps is not None and steps.has_any and steps.restore_record():
            release()

    def _release(self, request: ClaimRequest, owner: bytes, **options: Any) -> bool:
        return self._store.release(
            request.storage_key,
            owner,
            response_ttl_ms=request.settings.expire_ms,
            tombstone_ttl_ms=request.settings.tombstone_ttl_ms,
            **options,
        )

    def release_later(self, claim: Claim) -> None:
        """Release in the background a claim that the store did not release."""
        self._release_later(claim.request, lambda: self.release(claim))

    def release_unknown(self, request: ClaimRequest, owner: bytes) -> None:
        """Release, in the background, a claim that the store may hold without our knowing."""
        # It may be a later attempt.
        self._release_later(request, lambda: self._release(request, owner, has_steps=True))

    def abandon(self, claim: Claim) -> None:
        """Release, in the background, a claim whose view will not run."""
        if claim.settled:
            return
        claim.settled = True
        if not claim.is_in_store:
            return
        self.renewals.remove(claim)

        def release() -> None:
            # A renewal that is under way must not restore the claim afterwards.
            with claim.lock:
                self._release(claim.request, claim.record.owner, has_steps=claim.has_steps)

        self._release_later(claim.request, release)

    def _release_later(self, request: ClaimRequest, release: Callable[[], object]) -> None:
        # A lost release is not reported: the claim's lease ends by itself.
        self.write_later(request.storage_key, release, request.settings.expire, lambda _: None)

    def wake(self) -> None:
        """Start a round now, and the thread where there is none."""
        self._asleep = False
        if self._thread is None:
            self._start()
        self._wake_thread()

    def _wake_thread(self) -> None:
        with suppress(RuntimeError):  # It is awake.
            self._wake_up.release()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="flask-idempotent-worker", daemon=True
                )
                try:
                    self._thread.start()
                except RuntimeError:
                    self._thread = None
                    raise

    def _run(self) -> None:
        while not self._closing:
            if not self._wake_up.acquire(timeout=self._pause()):
                self._in_use = False
            if self._closing:
                return
            try:
                self.renewals.renew_due()
                self.pending.run()
            except StoreUnavailable:
                continue
            except Exception:
                logger.exception("a round of the background worker failed; the next one follows")

    def _pause(self) -> float:
        round_time = self._shortest_lease * _timing.WORKER_ROUND
        if self.pending:
            return min(_timing.RETRY_EVERY, round_time)
        if self.renewals or self._in_use:
            # A wake-up would cost every claim 1.5 us, so a busy process has rounds for nothing
            # instead: sleep without a timeout only where no claim came for a whole round.
            return round_time
        self._asleep = True
        # A claim may have come since the line above.
        return round_time if self.renewals else _NO_TIMEOUT

    def close(self, until: float = 0.0) -> None:
        """End the thread, try the pending writes once more, and report those that are lost.

        :param until: monotonic time until which the writes are retried.
        """
        with self._starting:
            thread, self._closing = self._thread, True
        self._wake_thread()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        try:
            self._linger(until)
        finally:
            self.pending.give_up(_PROCESS_ENDS)
            self.reset()

    def _linger(self, until: float) -> None:
        with suppress(StoreUnavailable):
            self.pending.run()
        if not self.pending or until <= time.monotonic():
            return
        logger.warning(
            "the process ends, and for up to %.1f s it retries what the store has not accepted: "
            "records %s",
            until - time.monotonic(), ", ".join(self.pending.storage_keys),
        )  # fmt: skip
        while self.pending and (left := until - time.monotonic()) > 0:
            time.sleep(min(_timing.LINGER_EVERY, left))
            with suppress(StoreUnavailable):
                self.pending.run()
                # A store that refuses a response may still renew its claim.
                self.renewals.renew_due()
