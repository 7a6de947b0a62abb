"""A store that gives control back before each command, for one process of a simulation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flask_idempotent.records import CompletedRecord, RunningRecord
from flask_idempotent.stores.base import (
    Claimed,
    ClaimResult,
    Completion,
    ContendResult,
    Renewal,
)
from flask_idempotent.stores.waiters import Bell, Bells
from tests.interleavings.actors import Listening, Sending
from tests.stores.harness import NEVER

if TYPE_CHECKING:
    from tests.interleavings.simulation import Simulation


class SteppedStore:
    """The store as one process sees it."""

    def __init__(self, simulation: Simulation, process: str) -> None:
        self._simulation = simulation
        self._process = process
        self._store = simulation.store
        self._bells = Bells()

    def claim(self, storage_key: str, record: RunningRecord, *, ttl_ms: int) -> ClaimResult:
        def run() -> ClaimResult:
            result = self._store.claim(storage_key, record, ttl_ms=ttl_ms)
            self._notice(record, result)
            return result

        result: ClaimResult = self._simulation.call("claim", run)
        return result

    def contend(self, storage_key: str, record: RunningRecord, **options: Any) -> ContendResult:
        def run() -> ContendResult:
            result = self._store.contend(storage_key, record, **options)
            self._notice(record, result)
            return result

        result: ContendResult = self._simulation.call("contend", run)
        return result

    def _notice(self, record: RunningRecord, result: ClaimResult | ContendResult) -> None:
        if isinstance(result, Claimed):
            self._simulation.checker.granted(record._replace(attempt=result.attempt))
            self._simulation.lease_begins()

    def now(self) -> int:
        return int(self._simulation.time.now * 1000)

    def renew(self, renewals: Sequence[Renewal], *, until: int) -> list[bool | None]:
        def run() -> list[bool | None]:
            simulation = self._simulation
            # A real server has a clock of its own.
            end = until if simulation.server_lease is None else NEVER if self.now() <= until else 0
            replies = self._store.renew(renewals, until=end)
            for renewal, ours in zip(renewals, replies, strict=True):
                if ours:
                    simulation.checker.renewed(renewal.record.owner)
                    simulation.lease_begins()
            return replies

        replies: list[bool | None] = self._simulation.call("renew", run)
        return replies

    def complete(self, storage_key: str, record: CompletedRecord, *, ttl_ms: int) -> Completion:
        def run() -> Completion:
            completion = self._store.complete(storage_key, record, ttl_ms=ttl_ms)
            self._simulation.checker.completed(record.owner, completion)
            return completion

        completion: Completion = self._simulation.call("complete", run)
        return completion

    def release(self, storage_key: str, owner: bytes, **ttls: int) -> bool:
        def run() -> bool:
            released = self._store.release(storage_key, owner, **ttls)
            self._simulation.checker.over(owner)
            return released

        released: bool = self._simulation.call("release", run)
        return released

    @contextmanager
    def listen(self, storage_key: str, seconds: float) -> Iterator[Bell]:
        self._simulation.pause(Sending("listen"))
        self._simulation.checker.waits()
        # The subscription is confirmed in real time.
        with self._store.listen(storage_key, max(seconds, 5.0)) as bell:
            # All processes share one store here, but each process has a leader of its own.
            bell.leads = False
            own = self._bells.join()
            self._simulation.bells.append(bell)
            try:
                yield SteppedBell(self._simulation, bell, own)
            finally:
                self._simulation.bells.remove(bell)
                self._bells.leave(own)

    def __getattr__(self, name: str) -> Any:
        # What operators ask of a store is not a step.
        return getattr(self._store, name)

    def close(self) -> None:
        """The store is shared by all processes."""


class SteppedBell(Bell):
    """A waiter's bell.

    :param bell: what the store rings.
    :param own: what its process rings, when it is to lead.
    """

    def __init__(self, simulation: Simulation, bell: Bell, own: Bell) -> None:
        self._simulation = simulation
        self._bell = bell
        self._own = own
        self.unsure = False

    @property
    def looks_until(self) -> float:  # type: ignore[override]
        return self._own.looks_until

    @looks_until.setter
    def looks_until(self, until: float) -> None:
        self._own.looks_until = until

    @property
    def leads(self) -> bool:  # type: ignore[override]
        return self._own.leads

    @property
    def rung(self) -> bool:
        return self._bell.rung or self._own.rung

    def wait(self, seconds: float) -> CompletedRecord | None:
        until = self._simulation.time.now + seconds
        if self._simulation.pause(Listening(self, until)) != "rung":
            return None
        self._own.heard(0)
        return self._bell.wait(0)
