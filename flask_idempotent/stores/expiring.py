"""Records in this process's memory that expire."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from flask_idempotent._forks import ForkAware
from flask_idempotent.records import CompletedRecord, Record, ReleasedRecord, RunningRecord
from flask_idempotent.stores.values import Step

Steps = Mapping[str, Step]
#: The steps of most records.
NO_STEPS: Steps = MappingProxyType({})


@dataclass(slots=True)
class Entry:
    """What a key has.

    :param record: its record.
    :param expires_at_ms: when it expires, by the clock of the records.
    :param offer: the response of a late owner that waits in it.
    :param steps: the steps of its runs by their names.
    """

    record: Record
    expires_at_ms: int
    offer: CompletedRecord | None = None
    steps: Steps = field(default_factory=lambda: NO_STEPS)

    @property
    def claim(self) -> RunningRecord:
        """Its record as a claim: one that was released is a claim whose lease is over."""
        assert not isinstance(self.record, CompletedRecord), "nobody claims a completed key"
        return self.record.as_claim() if isinstance(self.record, ReleasedRecord) else self.record

    @property
    def has_open_step(self) -> bool:
        """Whether a step began that is not known to have ended."""
        return any(step.value is None for step in self.steps.values())

    def drop_open_steps(self) -> None:
        """Forget all steps that are not known to have ended."""
        self.steps = {name: step for name, step in self.steps.items() if step.value is not None}

    def drop_open_step(self, name: str, owner: bytes) -> None:
        """Forget a step of this owner that is not known to have ended."""
        step = self.steps.get(name)
        if step is not None and step.owner == owner and step.value is None:
            self.steps = {other: step for other, step in self.steps.items() if other != name}


class ExpiringRecords(ForkAware):
    """Records by their storage keys, each with a time to live.

    :param clock: returns seconds, for leases and times to live.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._sweep_at = 1024
        super().__init__()

    def now(self) -> int:
        """Return the time of the store's clock, in milliseconds since any fixed point."""
        return int(self._clock() * 1000)

    def _lease_left_ms(self, entry: Entry) -> int:
        """Return how long the lease of a claim still lasts; 0 for one that was released."""
        if isinstance(entry.record, ReleasedRecord):
            return 0
        return entry.expires_at_ms - self.now() - entry.claim.grace_ms

    def _live_entry(self, storage_key: str) -> Entry | None:
        entry = self._entries.get(storage_key)
        if entry is not None and entry.expires_at_ms <= self.now():
            del self._entries[storage_key]
            return None
        return entry

    def _put(self, storage_key: str, record: Record, ttl_ms: int, steps: Steps = NO_STEPS) -> None:
        self._entries[storage_key] = Entry(record, self.now() + ttl_ms, steps=steps)
        if len(self._entries) >= self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        now = self.now()
        self._entries = {
            storage_key: entry
            for storage_key, entry in self._entries.items()
            if entry.expires_at_ms > now
        }
        self._sweep_at = max(1024, 2 * len(self._entries))
