"""What stands between a process and the store: it gives control back before each command."""

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
    from tests.interleavings.world import World


class Wire:
    """What stands between one process and the store."""

    def __init__(self, world: World, process: str) -> None:
        self._world = world
        self._process = process
        self._store = world.store
        self._bells = Bells()

    def claim(self, storage_key: str, record: RunningRecord, *, ttl_ms: int) -> ClaimResult:
        def run() -> ClaimResult:
            result = self._store.claim(storage_key, record, ttl_ms=ttl_ms)
            self._notice(record, result)
            return result

        result: ClaimResult = self._world.call("claim", run)
        return result

    def contend(self, storage_key: str, record: RunningRecord, **options: Any) -> ContendResult:
        def run() -> ContendResult:
            result = self._store.contend(storage_key, record, **options)
            self._notice(record, result)
            return result

        result: ContendResult = self._world.call("contend", run)
        return result

    def _notice(self, record: RunningRecord, result: ClaimResult | ContendResult) -> None:
        if isinstance(result, Claimed):
            self._world.witness.granted(record._replace(attempt=result.attempt))
            self._world.lease_begins()

    def now(self) -> int:
        return int(self._world.time.now * 1000)

    def renew(self, renewals: Sequence[Renewal], *, until: int) -> list[bool | None]:
        def run() -> list[bool | None]:
            world = self._world
            # A real server has a time of its own.
            end = until if world.mirror is None else NEVER if self.now() <= until else 0
            replies = self._store.renew(renewals, until=end)
            for renewal, ours in zip(renewals, replies, strict=True):
                if ours:
                    world.witness.renewed(renewal.record.owner)
                    world.lease_begins()
            return replies

        replies: list[bool | None] = self._world.call("renew", run)
        return replies

    def complete(self, key: str, record: CompletedRecord, *, expire: int) -> Completion:
        def run() -> Completion:
            completion = self._store.complete(key, record, expire=expire)
            self._world.witness.completed(record.owner, completion)
            return completion

        completion: Completion = self._world.call("complete", run)
        return completion

    def release(self, key: str, owner: bytes, **lives: int) -> bool:
        def run() -> bool:
            released = self._store.release(key, owner, **lives)
            self._world.witness.over(owner)
            return released

        released: bool = self._world.call("release", run)
        return released

    @contextmanager
    def listen(self, key: str, seconds: float) -> Iterator[Bell]:
        self._world.pause(Sending("listen"))
        self._world.witness.waits()
        # The subscription is confirmed in real time.
        with self._store.listen(key, max(seconds, 5.0)) as bell:
            # The store is every process's here, but in each process one waiter leads.
            bell.leads = False
            own = self._bells.join()
            self._world.bells.append(bell)
            try:
                yield WireBell(self._world, bell, own)
            finally:
                self._world.bells.remove(bell)
                self._bells.leave(own)

    def __getattr__(self, name: str) -> Any:
        # What operators ask of a store is no step.
        return getattr(self._store, name)

    def close(self) -> None:
        """The store is every process's."""


class WireBell(Bell):
    """A waiter's bell.

    :param bell: what the store rings.
    :param own: what its process rings, when it is to lead.
    """

    def __init__(self, world: World, bell: Bell, own: Bell) -> None:
        self._world = world
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
        until = self._world.time.now + seconds
        if self._world.pause(Listening(self, until)) != "rung":
            return None
        self._own.heard(0)
        return self._bell.wait(0)
