"""The engine: who runs, who waits, and what the others get."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from contextlib import suppress

from flask_idempotent._forks import ForkAware, check_process
from flask_idempotent.engine.claimant import Claimant
from flask_idempotent.engine.claims import Claim, ClaimRequest
from flask_idempotent.engine.outcomes import Outcome, StillRunning
from flask_idempotent.engine.reports import Reports
from flask_idempotent.engine.worker import Worker, release_in_store
from flask_idempotent.errors import StoreError
from flask_idempotent.records import Completed
from flask_idempotent.stores.base import Completion, Store


class Engine(ForkAware):
    """Runs each key once over one store.

    :param store: where records live.
    :param sender: the sender of signals.
    :param max_waiters: how many requests of this process may wait at once; None for any number.
    :param linger: seconds for which a process that ends goes on trying to write what the store has
        not taken.
    """

    def __init__(
        self,
        store: Store,
        sender: object,
        max_waiters: int | None = None,
        *,
        linger: float = 0.0,
    ) -> None:
        self.store = store
        self.linger = linger
        self._reports = Reports(sender)
        self.worker = Worker(store, self._reports)
        self._max_waiters = max_waiters
        super().__init__()
        _engines.add(self)
        weakref.finalize(self, _close_aside, self.worker, store, linger).atexit = False

    def reset(self) -> None:
        self._waiters = 0
        self._counting = threading.Lock()

    def close(self, until: float = 0.0) -> None:
        """Bring the store what it has yet to take, and end threads and connections.

        :param until: monotonic time until which to go on trying where the store does not take it.
        """
        _close(self.worker, self.store, until)

    def claim(self, request: ClaimRequest) -> Outcome:
        """Claim the key of a request, or wait for the one that has it.

        :raises StoreError: when the store does not say what is known of the key.
        :raises RecordUnreadable: when the key's record has damaged bytes.
        """
        check_process()
        if self.worker.pending:
            # A response of ours that is not stored yet may be the one that this request needs; and
            # a store that is still dead need not be asked twice. Other keys' are not waited for.
            self.worker.pending.run(request.storage_key)
        claimant = Claimant(self.store, self.worker, request)
        try:
            outcome = claimant.claim()
            if isinstance(outcome, StillRunning):
                outcome = self._wait(claimant, outcome, request)
            if not isinstance(outcome, Claim):
                claimant.release_if_uncertain()
        except BaseException:
            claimant.abandon()
            raise
        return outcome

    def _wait(self, claimant: Claimant, outcome: StillRunning, request: ClaimRequest) -> Outcome:
        if request.settings.timeout > 0 and self._enter():
            began = time.monotonic()
            try:
                self._reports.before_wait(request)
                return claimant.wait(outcome)
            finally:
                self._leave()
                self._reports.waited(request, time.monotonic() - began)
        return claimant.contend() if outcome.lease_left is None else outcome

    def _enter(self) -> bool:
        with self._counting:
            if self._max_waiters is not None and self._waiters >= self._max_waiters:
                return False
            self._waiters += 1
            return True

    def _leave(self) -> None:
        with self._counting:
            self._waiters -= 1

    def complete(
        self,
        claim: Claim,
        status: int | str,
        headers: tuple[tuple[str, str], ...],
        body: bytes | None,
    ) -> None:
        """Store the response of a view that has answered, now or as soon as the store takes it.

        :param body: the octets, or None for a response that is not kept.
        """
        if not claim.ours:
            return
        record = _answer(claim, status, headers, body)
        try:
            self._store(claim, record)
        except StoreError as error:
            self._reports.store_failed("complete", error)
            self._store_later(claim, record)
        except Exception:
            raise
        except BaseException:
            # A worker's timeout, say: the view has answered all the same.
            self._store_later(claim, record)
            raise

    def complete_later(
        self,
        claim: Claim,
        status: int | str,
        headers: tuple[tuple[str, str], ...],
        body: bytes | None,
    ) -> None:
        """Do the same without waiting for anything, not even a lock."""
        if claim.ours and not claim.answered:
            self._store_later(claim, _answer(claim, status, headers, body))

    def _store_later(self, claim: Claim, record: Completed) -> None:
        self.worker.write_later(
            claim.storage_key,
            lambda: self._store(claim, record),
            claim.request.settings.expire,
            lambda reason: self._lose_response(claim, reason),
        )

    def _store(self, claim: Claim, record: Completed) -> None:
        with claim.lock:
            if claim.settled:
                return
            claim.answered = True
            began = time.monotonic()
            completion = self.store.complete(
                claim.storage_key, record, expire=claim.request.settings.expire_ms
            )
            ended = time.monotonic()
            claim.settled = True
        self.worker.renewals.remove(claim)
        if completion is Completion.STORED or _was_replaced(claim, record, completion, ended):
            self._reports.completed(claim, record, ended - began)
        else:
            self.worker.renewals.mark_lost(claim)

    def _lose_response(self, claim: Claim, reason: str) -> None:
        self.worker.renewals.remove(claim)
        self._reports.response_lost(claim, reason)

    def release(self, claim: Claim, reason: str) -> None:
        """Give up a claim whose view failed, now or as soon as the store takes it.

        :param reason: ``"failed"``, ``"not-stored"`` or ``"by-view"``.
        """
        if not claim.ours:
            return
        with claim.lock:
            if claim.settled:
                return
            claim.settled = True
        self.worker.renewals.remove(claim)
        try:
            release_in_store(self.store, claim.request, claim.record.owner)
        except StoreError as error:
            self._reports.store_failed("release", error)
            self.worker.release_later(claim.request, claim.record.owner)
        except BaseException:
            self.worker.release_later(claim.request, claim.record.owner)
            raise
        self._reports.released(claim, reason)

    def abandon(self, claim: Claim) -> None:
        """Release, in the background, a claim whose view will not run."""
        self.worker.abandon(claim)


def _answer(
    claim: Claim, status: int | str, headers: tuple[tuple[str, str], ...], body: bytes | None
) -> Completed:
    record, limit = claim.record, claim.request.settings.compress
    compress = limit is not None and body is not None and len(body) >= limit
    answer = Completed(
        record.owner, record.fingerprint, record.attempt, status, headers, body, time.time(),
        compress, record.method, record.endpoint,
    )  # fmt: skip
    if answer.code in claim.request.settings.correctable:
        return answer._replace(operation=claim.request.operation())
    return answer


def _was_replaced(claim: Claim, record: Completed, completion: Completion, now: float) -> bool:
    # The reply to an earlier command was lost, and a corrected request took the response's place
    # before the command was sent again. Within the lease nothing else can have done so.
    is_correctable = record.operation != b""
    return completion is Completion.REFUSED and is_correctable and not claim.has_lapsed(now)


def _close(worker: Worker, store: Store, until: float) -> None:
    check_process()
    worker.close(until)
    store.close()


def _close_aside(worker: Worker, store: Store, linger: float) -> None:
    # The last user of an engine goes at any moment of any thread, which must not wait for a store.
    with suppress(RuntimeError):  # No thread starts while the interpreter ends.
        until = time.monotonic() + linger
        threading.Thread(target=_close, args=(worker, store, until), daemon=True).start()


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # A process that leaves in good order gives a response not yet stored some more time. All
    # engines together have that of one: web servers do not wait for ever.
    began = time.monotonic()
    for engine in list(_engines):
        engine.close(began + engine.linger)
