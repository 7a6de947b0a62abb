"""The engine: one request of each key runs, the others wait and get its response."""

from __future__ import annotations

import time
import weakref

from flask_idempotent._forks import check_process
from flask_idempotent.engine.claimant import Claimant
from flask_idempotent.engine.claims import Claim, ClaimRequest
from flask_idempotent.engine.closing import close, close_at_exit, close_in_background
from flask_idempotent.engine.outcomes import Outcome, OutcomeUnknown, StillRunning
from flask_idempotent.engine.reports import Reports
from flask_idempotent.engine.steps import Steps, check_process_of
from flask_idempotent.engine.transactions import Answer
from flask_idempotent.engine.waiter_limit import WaiterLimit
from flask_idempotent.engine.worker import Worker
from flask_idempotent.errors import StoreError
from flask_idempotent.records import CompletedRecord
from flask_idempotent.stores.base import Completion, Store


class Engine:
    """Claims keys in one store, and completes or releases them.

    :param store: where records live.
    :param sender: the sender of signals.
    :param max_waiters: how many requests of this process may wait at once; None for any number.
    :param linger: seconds for which a process that ends retries the writes that the store has not
        accepted yet.
    """

    def __init__(
        self, store: Store, sender: object, max_waiters: int | None = None, *, linger: float = 0.0
    ) -> None:
        self.store = store
        self.linger = linger
        self._reports = Reports(sender)
        self.worker = Worker(store, self._reports)
        #: What the store's ``confirmed_by`` returned, by the number of replicas.
        self._confirmed_stores: dict[int, Store] = {}
        self._waiter_limit = WaiterLimit(max_waiters)
        close_at_exit(self)
        weakref.finalize(self, close_in_background, self.worker, store, linger).atexit = False

    @property
    def waiters(self) -> int:
        """How many requests of this process wait now."""
        return self._waiter_limit.count

    def close(self, until: float = 0.0) -> None:
        """Try the pending writes once more, and end the threads and connections.

        A later call of another method starts them again.

        :param until: monotonic time until which writes that the store does not accept are retried.
        """
        close(self.worker, self.store, until)

    def claim(self, request: ClaimRequest) -> Outcome:
        """Claim the key of a request, or wait for the request that has it.

        :returns: a ``Claim`` when the view is to run, else why it is not. Each claim must be
            completed, released or abandoned.
        :raises StoreError: when the store fails, so that it is unknown what has the key.
        :raises RecordUnreadable: when the key's record has damaged bytes.
        """
        check_process()
        if self.worker.pending:
            # This request may need the response that is pending. While the store is still
            # unavailable, this raises and no claim is tried. Writes of other keys can wait.
            self.worker.pending.run(request.storage_key)
        claimant = Claimant(self._store_for(request), self.worker, request)
        try:
            outcome = claimant.claim()
            if isinstance(outcome, StillRunning):
                outcome = self.wait(claimant, outcome, request)
            if not isinstance(outcome, Claim):
                claimant.release_if_uncertain()
        except BaseException:
            claimant.abandon()
            raise
        return outcome

    def _store_for(self, request: ClaimRequest) -> Store:
        """Return the store for a request: with ``min_replicas``, the one that replicas confirm.

        :raises SettingsError: when the store has no replicas.
        """
        replicas = request.settings.min_replicas
        if not replicas:
            return self.store
        if replicas not in self._confirmed_stores:
            self._confirmed_stores[replicas] = self.store.confirmed_by(replicas)
        return self._confirmed_stores[replicas]

    def wait(self, claimant: Claimant, outcome: StillRunning, request: ClaimRequest) -> Outcome:
        """Wait until another request has answered, unless too many wait already.

        :param outcome: what the claimant's first look at the key found.
        """
        if request.settings.timeout > 0 and self._waiter_limit.enter():
            began = time.monotonic()
            try:
                self._reports.before_wait(request)
                return claimant.wait(outcome)
            finally:
                self._waiter_limit.leave()
                self._reports.waited(request, time.monotonic() - began)
        return claimant.contend() if outcome.lease_left is None else outcome

    def complete(
        self,
        claim: Claim,
        status: int | str,
        headers: tuple[tuple[str, str], ...],
        body: bytes | None,
        session: bytes = b"",
    ) -> None:
        """Store the response of a view, now or as soon as the store accepts it.

        :param status: the status code, or the whole status line.
        :param headers: the headers that a replay repeats.
        :param body: the bytes, or None for a body that is not kept.
        :param session: what a replay repeats of the session.
        """
        record = claim.completed(status, headers, body, session)
        self._complete(claim, record, claim.request.settings.expire_ms)

    def steps_of(self, claim: Claim) -> Steps:
        """Return the steps of a run, which the first call creates.

        :raises LeaseLost: in a forked child.
        """
        check_process_of(claim)
        with claim.lock:
            if claim.steps is None:
                store = self._store_for(claim.request)
                claim.steps = Steps(store, self.worker.renewals, self._reports, claim)
            return claim.steps

    def restore(self, claim: Claim, answer: Answer) -> None:
        """Store the answer that the view's own database has, in place of one of this claim's.

        It is stored for the rest of its time, as the claim's: only the owner of a key completes it.
        """
        # After a loss of its records the store counts from 1 again.
        attempt = max(claim.attempt, answer.record.attempt)
        record = answer.record._replace(owner=claim.record.owner, attempt=attempt)
        claim.restored = True
        self._complete(claim, record, max(1, answer.ttl_ms))

    def restore_unclaimed(self, answer: Answer) -> None:
        """Store the answer that the view's own database has of a run whose owner died.

        It is stored as that run's, which the store accepts as if its owner were alive.
        """
        # A run without the store has attempt 0, which no record in it has.
        record = answer.record._replace(attempt=max(1, answer.record.attempt))
        try:
            self.store.complete(
                answer.storage_key, record, ttl_ms=max(1, answer.ttl_ms), has_steps=True
            )
        except StoreError as error:
            self._reports.store_failed("complete", error)

    def _complete(self, claim: Claim, record: CompletedRecord, ttl_ms: int) -> None:
        if not claim.is_ours:
            return
        if claim.step_refused or not claim.is_in_store:
            # A view that goes on without a step that was refused has not come to its end.
            self.forget(claim)
            return
        try:
            self._complete_in_store(claim, record, ttl_ms)
        except StoreError as error:
            self._reports.store_failed("complete", error)
            self._complete_later(claim, record, ttl_ms)
        except Exception:
            raise
        except BaseException:
            # A web server's timeout, for example. The view has answered anyway.
            self._complete_later(claim, record, ttl_ms)
            raise

    def complete_later(
        self,
        claim: Claim,
        status: int | str,
        headers: tuple[tuple[str, str], ...],
        body: bytes | None,
    ) -> None:
        """Store the response in the background, without waiting for any lock.

        The parameters are the first ones of ``complete``. Destructors may call it.
        """
        if claim.step_refused:
            self.forget(claim)
        elif claim.is_ours and claim.is_in_store and not claim.completing:
            record = claim.completed(status, headers, body)
            self._complete_later(claim, record, claim.request.settings.expire_ms)

    def _complete_later(self, claim: Claim, record: CompletedRecord, ttl_ms: int) -> None:
        self.worker.write_later(
            claim.storage_key,
            lambda: self._complete_in_store(claim, record, ttl_ms),
            ttl_ms / 1000,
            lambda reason: self._give_up_response(claim, reason),
        )

    def _complete_in_store(self, claim: Claim, record: CompletedRecord, ttl_ms: int) -> None:
        with claim.lock:
            if claim.settled:
                return
            claim.completing = True
            began = time.monotonic()
            completion = self._store_for(claim.request).complete(
                claim.storage_key, record, ttl_ms=ttl_ms, has_steps=claim.has_steps
            )
            ended = time.monotonic()
            claim.settled = True
        self.worker.renewals.remove(claim)
        if completion is Completion.STORED or _was_replaced(claim, record, completion, ended):
            self._reports.completed(claim, record, ended - began)
        else:
            self.worker.renewals.mark_lost(claim)

    def _give_up_response(self, claim: Claim, reason: str) -> None:
        self.worker.renewals.remove(claim)
        self._reports.response_lost(claim, reason)

    def release(self, claim: Claim, reason: str) -> None:
        """Give up a claim, now or as soon as the store accepts it, so that the next request runs.

        :param reason: ``"failed"``, ``"not-stored"`` or ``"by-view"``; see ``signals.released``.
        """
        if not claim.is_ours:
            return
        with claim.lock:
            if claim.settled:
                return
            claim.settled = True
        if not claim.is_in_store:
            return
        self._release_in_store(claim)
        self._reports.released(claim, reason)

    def _release_in_store(self, claim: Claim, *, holds: bool = False) -> None:
        self.worker.renewals.remove(claim)
        try:
            self.worker.release(claim, holds=holds)
        except StoreError as error:
            self._reports.store_failed("release", error)
            self.worker.release_later(claim)
        except BaseException:
            # A web server's timeout, for example.
            self.worker.release_later(claim)
            raise

    def begin(self, claim: Claim) -> Outcome:
        """Let the view of a claim run whose owner was to decide about the run that died.

        :returns: the claim; or what follows where another has the key, or a late owner has left
            its response.
        :raises StoreError: when the store does not do it.
        """
        request, owner = claim.request, claim.record.owner
        outcome = Claimant(self._store_for(request), self.worker, request, owner).begin(claim)
        if outcome is not claim:
            self.forget(claim)
        return outcome

    def hold(self, claim: Claim) -> OutcomeUnknown:
        """Hold the key of a claim whose owner was to decide; the next is asked when it lapses.

        :returns: what others get for what is left of its lease.
        """
        with claim.lock:
            claim.settled = True
        self._release_in_store(claim, holds=True)
        return OutcomeUnknown(claim.request.settings.lease - (time.monotonic() - claim.renewed))

    def forget(self, claim: Claim) -> None:
        """Stop renewing a claim that is not ours any more. The store is not asked."""
        claim.settled = True
        self.worker.renewals.remove(claim)

    def abandon(self, claim: Claim) -> None:
        """Release, in the background, a claim whose view will not run."""
        self.worker.abandon(claim)


def _was_replaced(
    claim: Claim, record: CompletedRecord, completion: Completion, now: float
) -> bool:
    # The response was stored, the reply was lost, and a corrected request replaced the response
    # before the command was sent again. Nothing else makes the store refuse a response within the
    # lease, unless the store lost the record.
    is_correctable = record.operation != b""
    return completion is Completion.REFUSED and is_correctable and not claim.has_lapsed(now)
