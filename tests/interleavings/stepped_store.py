"""A store that gives control back before each command, for one process of a simulation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flask_idempotent.records import CompletedRecord, Record, RunningRecord
from flask_idempotent.stores.base import (
    Claimed,
    ClaimResult,
    Completion,
    ContendResult,
    Renewal,
    Step,
    StepResult,
)
from flask_idempotent.stores.waiters import Waiter, WaiterQueue
from tests.interleavings.actors import Listening, Sending
from tests.stores.harness import HOUR

if TYPE_CHECKING:
    from tests.interleavings.simulation import Simulation

#: Milliseconds that the store keeps an answer that has expired in the database.
EXPIRED_TTL = 1


class SteppedStore:
    """The store as one process sees it."""

    def __init__(self, simulation: Simulation, process: str) -> None:
        self._simulation = simulation
        self._process = process
        self._store = simulation.store
        self._waiters = WaiterQueue()

    def claim(self, storage_key: str, record: RunningRecord, *, ttl_ms: int) -> ClaimResult:
        def run() -> ClaimResult:
            result = self._store.claim(storage_key, record, ttl_ms=ttl_ms)
            self._notice(record, result)
            return result

        result: ClaimResult = self._simulation.call("claim", run)
        return result

    def contend(self, storage_key: str, record: RunningRecord, **options: Any) -> ContendResult:
        def run() -> ContendResult:
            before, decides = self._simulation.record(), options.get("decides", False)
            result = self._store.contend(storage_key, record, **options)
            self._notice(record, result, before, decides=decides)
            return result

        result: ContendResult = self._simulation.call("contend", run)
        return result

    def _notice(
        self,
        record: RunningRecord,
        result: ClaimResult | ContendResult,
        before: Record | None = None,
        *,
        decides: bool = False,
    ) -> None:
        if isinstance(result, Claimed):
            if not (decides and result.dead):
                self._simulation.checker.may_run(result.attempt)
                decided = isinstance(before, RunningRecord) and before.died > 0
                is_own = decided and before.owner == record.owner
                self._simulation.step_checker.granted(before, record, decided=is_own)
            self._simulation.checker.granted(record._replace(attempt=result.attempt))
            self._simulation.lease_begins()

    def _now(self) -> int:
        return int(self._simulation.time.now * 1000)

    def renew(self, renewals: Sequence[Renewal], *, restore_within_ms: int) -> list[bool | None]:
        until = self._now() + restore_within_ms

        def run() -> list[bool | None]:
            simulation = self._simulation
            # The store's clock goes on while a renewal is on its way.
            in_time = HOUR if self._now() <= until else -1
            replies = self._store.renew(renewals, restore_within_ms=in_time)
            for renewal, ours in zip(renewals, replies, strict=True):
                if ours:
                    simulation.checker.renewed(renewal.record.owner)
                    simulation.lease_begins()
            return replies

        replies: list[bool | None] = self._simulation.call("renew", run)
        return replies

    def write_step(
        self, storage_key: str, record: RunningRecord, step: Step, *, ttl_ms: int | None
    ) -> StepResult | Step:
        def run() -> StepResult | Step:
            result = self._store.write_step(storage_key, record, step, ttl_ms=ttl_ms)
            if result is StepResult.LOST:
                self._simulation.step_checker.refused(record.owner)
            elif result is StepResult.WRITTEN and ttl_ms is not None:
                self._simulation.checker.renewed(record.owner)
                self._simulation.lease_begins()
            return result

        result: StepResult | Step = self._simulation.call("step", run)
        return result

    def read_steps(self, storage_key: str, fingerprint: bytes) -> list[Step]:
        steps: list[Step] = self._simulation.call(
            "read steps", lambda: self._store.read_steps(storage_key, fingerprint)
        )
        return steps

    def complete(self, storage_key: str, record: CompletedRecord, **options: Any) -> Completion:
        def run() -> Completion:
            completion = self._store.complete(storage_key, record, **options)
            self._simulation.checker.completed(record.owner, completion)
            if options["ttl_ms"] == EXPIRED_TTL and completion is Completion.STORED:
                self._simulation.lose()
            return completion

        completion: Completion = self._simulation.call("complete", run)
        return completion

    def release(self, storage_key: str, owner: bytes, **options: Any) -> bool:
        def run() -> bool:
            released = self._store.release(storage_key, owner, **options)
            left = self._simulation.record()
            if not isinstance(left, RunningRecord) or left.owner != owner:
                self._simulation.checker.over(owner)
            elif not left.held:
                self._simulation.lease_is_over(owner)
            return released

        released: bool = self._simulation.call("release", run)
        return released

    @contextmanager
    def listen(self, storage_key: str, seconds: float) -> Iterator[Waiter]:
        self._simulation.pause(Sending("listen"))
        self._simulation.checker.waits()
        # The subscription is confirmed in real time.
        with self._store.listen(storage_key, max(seconds, 5.0)) as waiter:
            # All processes share one store here, but each process has a leader of its own.
            waiter.is_leader = False
            process_waiter = self._waiters.join()
            self._simulation.waiters.append(waiter)
            try:
                yield SteppedWaiter(self._simulation, waiter, process_waiter)
            finally:
                self._simulation.waiters.remove(waiter)
                self._waiters.leave(process_waiter)

    def __getattr__(self, name: str) -> Any:
        # What operators ask of a store is not a step.
        return getattr(self._store, name)

    def close(self) -> None:
        """The store is shared by all processes."""


class SteppedWaiter(Waiter):
    """A waiter that gives control back while it waits.

    :param waiter: the one that the store notifies.
    :param process_waiter: the one of its process, which may become the leader.
    """

    def __init__(self, simulation: Simulation, waiter: Waiter, process_waiter: Waiter) -> None:
        self._simulation = simulation
        self._waiter = waiter
        self._process_waiter = process_waiter
        self.may_have_missed = False

    @property
    def polls_until(self) -> float:  # type: ignore[override]
        return self._process_waiter.polls_until

    @polls_until.setter
    def polls_until(self, until: float) -> None:
        self._process_waiter.polls_until = until

    @property
    def is_leader(self) -> bool:  # type: ignore[override]
        return self._process_waiter.is_leader

    @property
    def notified(self) -> bool:
        return self._waiter.notified or self._process_waiter.notified

    def wait(self, seconds: float) -> CompletedRecord | None:
        until = self._simulation.time.now + seconds
        if self._simulation.pause(Listening(self, until)) != "notified":
            return None
        self._process_waiter.wait_until_notified(0)
        return self._waiter.wait(0)
