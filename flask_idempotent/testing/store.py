"""The store of a test: in memory, with owners that can be made to crash."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flask_idempotent.crash import StepState
from flask_idempotent.records import CompletedRecord, RunningRecord
from flask_idempotent.stores.base import Completion, Step, StepResult
from flask_idempotent.stores.memory import MemoryStore


class OwnerCrashed(BaseException):
    """Ends a view whose owner crashes.

    It is not an ``Exception``, so that no error handler makes a response of it.
    """


@dataclass(slots=True)
class StepCrash:
    """When the owner of the next run crashes: at which of the commands about its steps.

    :param number: the number of the command, from 1 on.
    :param carried_out: whether the store carries it out before the crash.
    :param storage_key: the name of the record, once the owner has crashed.
    :param step: the step of the command, once the owner has crashed.
    :param steps: the names and states of the steps that the store has then.
    """

    number: int
    carried_out: bool
    storage_key: str = ""
    step: Step | None = None
    steps: Mapping[str, StepState] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """When the owner crashed, such as ``after the step 'charge' had ended``."""
        assert self.step is not None, "it has crashed"
        name = repr(self.step.name)
        match self.step.state, self.carried_out:
            case "started", False:
                return f"before the step {name} began"
            case "started", True:
                return f"in the step {name}, which had begun"
            case "ended", True:
                return f"after the step {name} had ended"
        return f"after the function of the step {name} had returned, before its result was stored"


class CrashableStore(MemoryStore):
    """Keeps records in this process, and ignores owners that have crashed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        #: How many commands about steps have come since this was set.
        self.step_commands = 0
        self._crashing = False
        self._step_crash: StepCrash | None = None
        self._crashed: set[bytes] = set()

    @contextmanager
    def crash(self) -> Iterator[None]:
        """Let owners crash: a claim stays until its lease ends."""
        self._crashing = True
        try:
            yield
        finally:
            self._crashing = False

    @contextmanager
    def crash_at_step(self, crash: StepCrash) -> Iterator[None]:
        """Let an owner crash at one of its steps, which raises ``OwnerCrashed`` in its view."""
        self.step_commands, self._step_crash = 0, crash
        try:
            yield
        finally:
            self._step_crash = None

    def ignore(self, owner: bytes) -> None:
        """Ignore an owner from now on: it has crashed."""
        self._crashed.add(owner)

    def end_lease(self, storage_key: str) -> None:
        """End the lease of a claim now, without letting time pass for other records."""
        with self._lock:
            entry = self._live_entry(storage_key)
            assert entry is not None, "the test has just made it"
            assert isinstance(entry.record, RunningRecord), "it has a lease"
            entry.expires_at_ms = self.now() + entry.record.grace_ms

    def write_step(
        self, storage_key: str, record: RunningRecord, step: Step, *, ttl_ms: int | None
    ) -> StepResult | Step:
        if record.owner in self._crashed:
            return StepResult.LOST
        self.step_commands += 1
        crash = self._step_crash
        crashes = crash is not None and crash.number == self.step_commands
        result: StepResult | Step = StepResult.LOST
        if crash is None or not crashes or crash.carried_out:
            result = super().write_step(storage_key, record, step, ttl_ms=ttl_ms)
        if crash is not None and crashes:
            crash.storage_key, crash.step = storage_key, step
            (info,) = self.inspect([storage_key])
            crash.steps = info.steps
            self.ignore(record.owner)
            raise OwnerCrashed
        return result

    def complete(
        self, storage_key: str, record: CompletedRecord, *, ttl_ms: int, has_steps: bool = False
    ) -> Completion:
        if self._crashing or record.owner in self._crashed:
            return Completion.STORED
        return super().complete(storage_key, record, ttl_ms=ttl_ms, has_steps=has_steps)

    def release(self, storage_key: str, owner: bytes, **options: Any) -> bool:
        is_ignored = self._crashing or owner in self._crashed
        return is_ignored or super().release(storage_key, owner, **options)
