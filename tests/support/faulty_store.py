"""A store whose methods fail, or are interrupted, as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flask_idempotent.records import CompletedRecord, RunningRecord
from flask_idempotent.stores.base import (
    ClaimResult,
    Completion,
    ContendResult,
    Renewal,
    Step,
    StepResult,
)
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.stores.waiters import Waiter


class Clock:
    """A clock that stands still until a test sets ``now``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


Action = Callable[[], object]


class FaultyStore(MemoryStore):
    """A store in memory that calls a test's functions before or after a method does its work.

    ``before["claim"]`` and ``after["claim"]`` are lists of functions, of which each call of the
    method takes and calls the first. What it raises is what the method raises.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.clock = clock or Clock()
        super().__init__(self.clock)
        #: Whether completions and releases wake no waiter.
        self.is_silent = False
        #: Whether releases do not arrive, as if the owner had died.
        self.is_deaf = False
        self.before: dict[str, list[Action]] = {}
        self.after: dict[str, list[Action]] = {}
        self.calls: list[str] = []
        #: The owner tokens that were claimed with, in order.
        self.asked_by: list[bytes] = []
        self.listening = threading.Semaphore(0)

    def _around(self, name: str, work: Callable[[], Any]) -> Any:
        self.calls.append(name)
        for functions, moment in ((self.before, 0), (self.after, 1)):
            if moment:
                result = work()
            if functions.get(name):
                functions[name].pop(0)()
        return result

    def claim(self, storage_key: str, record: RunningRecord, *, ttl_ms: int) -> ClaimResult:
        self.asked_by.append(record.owner)
        result: ClaimResult = self._around(
            "claim", lambda: super(FaultyStore, self).claim(storage_key, record, ttl_ms=ttl_ms)
        )
        return result

    def contend(self, storage_key: str, record: RunningRecord, **options: Any) -> ContendResult:
        self.asked_by.append(record.owner)
        # A look at the key, like a claim.
        result: ContendResult = self._around(
            "claim", lambda: super(FaultyStore, self).contend(storage_key, record, **options)
        )
        return result

    def renew(self, renewals: Sequence[Renewal], *, restore_within_ms: int) -> list[bool | None]:
        until = self.now() + restore_within_ms

        def renew() -> list[bool | None]:
            return super(FaultyStore, self).renew(renewals, restore_within_ms=until - self.now())

        result: list[bool | None] = self._around("renew", renew)
        return result

    def write_step(
        self, storage_key: str, record: RunningRecord, step: Step, *, ttl_ms: int | None
    ) -> StepResult | Step:
        result: StepResult | Step = self._around(
            "step",
            lambda: super(FaultyStore, self).write_step(storage_key, record, step, ttl_ms=ttl_ms),
        )
        return result

    def read_steps(self, storage_key: str, fingerprint: bytes) -> list[Step]:
        result: list[Step] = self._around(
            "read_steps", lambda: super(FaultyStore, self).read_steps(storage_key, fingerprint)
        )
        return result

    def complete(self, storage_key: str, record: CompletedRecord, **options: Any) -> Completion:
        result: Completion = self._around(
            "complete",
            lambda: super(FaultyStore, self).complete(storage_key, record, **options),
        )
        return result

    def release(self, storage_key: str, owner: bytes, **options: Any) -> bool:
        if self.is_deaf:
            return True
        result: bool = self._around(
            "release", lambda: super(FaultyStore, self).release(storage_key, owner, **options)
        )
        return result

    def _notify(self, storage_key: str, record: CompletedRecord | None = None) -> None:
        if not self.is_silent:
            super()._notify(storage_key, record)

    def wake(self, storage_key: str) -> None:
        """Wake the waiters of a key for no reason."""
        self._notify(storage_key)

    @contextmanager
    def listen(self, storage_key: str, seconds: float) -> Iterator[Waiter]:
        with super().listen(storage_key, seconds) as waiter:
            self.listening.release()
            yield waiter


def fail(error: Exception) -> Action:
    def raise_it() -> None:
        raise error

    return raise_it
