"""Records in this process's memory that expire."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from flask_idempotent._forks import ForkAware
from flask_idempotent.records import CompletedRecord, Record


@dataclass(slots=True)
class Entry:
    """What a key has.

    :param record: its record.
    :param expires_at_ms: when it expires, by the clock of the records.
    :param offer: the response of a late owner that waits in it.
    """

    record: Record
    expires_at_ms: int
    offer: CompletedRecord | None = None


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

    def _live_entry(self, storage_key: str) -> Entry | None:
        entry = self._entries.get(storage_key)
        if entry is not None and entry.expires_at_ms <= self.now():
            del self._entries[storage_key]
            return None
        return entry

    def _put(self, storage_key: str, record: Record, ttl_ms: int) -> None:
        self._entries[storage_key] = Entry(record, self.now() + ttl_ms)
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
