"""The records of a process as operators see them, and the waiters for their responses."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from flask_idempotent.record_format import encode
from flask_idempotent.records import CompletedRecord, ReleasedRecord, RunningRecord, summary_of
from flask_idempotent.stores.base import RecordInfo
from flask_idempotent.stores.expiring import Entry, ExpiringRecords
from flask_idempotent.stores.waiters import Notification, WaiterQueue


class MemoryRecords(ExpiringRecords):
    """Records in this process that operators can look into."""

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[str, WaiterQueue] = {}

    def _notify(self, storage_key: str, record: CompletedRecord | None = None) -> None:
        waiters = self._waiters.get(storage_key)
        if waiters is not None:
            waiters.notify(None if record is None else Notification.of(record))

    def _store_response(self, storage_key: str, record: CompletedRecord, ttl_ms: int) -> None:
        self._put(storage_key, record, ttl_ms)
        self._notify(storage_key, record)

    def scan(self, prefix: str) -> Iterator[str]:
        with self._lock:
            live = [key for key in list(self._entries) if self._live_entry(key) is not None]
        yield from (storage_key for storage_key in live if storage_key.startswith(prefix))

    def inspect(self, storage_keys: Iterable[str]) -> Iterator[RecordInfo]:
        for storage_key in storage_keys:
            info = self._info(storage_key)
            if info is not None:
                yield info

    def _info(self, storage_key: str) -> RecordInfo | None:
        with self._lock:
            entry = self._live_entry(storage_key)
            return None if entry is None else self._describe(storage_key, entry)

    def _describe(self, storage_key: str, entry: Entry) -> RecordInfo:
        ttl_ms, record = entry.expires_at_ms - self.now(), entry.record
        size = len(encode(record)) + (0 if entry.offer is None else len(encode(entry.offer)))
        lease_left_ms = ttl_ms - record.grace_ms if isinstance(record, RunningRecord) else None
        waiters = int(storage_key in self._waiters)  # All of them are in this one process.
        steps = {step.name: step.state for step in entry.steps.values()}
        return RecordInfo(
            storage_key=storage_key,
            record=summary_of(record),
            ttl_ms=ttl_ms,
            size=size,
            lease_left_ms=lease_left_ms,
            waiters=waiters,
            owner=record.owner,
            steps=steps,
        )

    def read_offer(self, storage_key: str) -> CompletedRecord | None:
        with self._lock:
            entry = self._live_entry(storage_key)
            return None if entry is None else entry.offer

    def resolve(
        self,
        storage_key: str,
        owner: bytes,
        record: CompletedRecord,
        *,
        ttl_ms: int,
        even_running: bool = False,
    ) -> bool:
        with self._lock:
            entry = self._live_entry(storage_key)
            if entry is None:
                return False
            if isinstance(entry.record, CompletedRecord):
                return entry.record.owner == record.owner
            if entry.record.owner != owner or not self._may_resolve(entry, even_running):
                return False
            ttl_ms = max(ttl_ms, entry.expires_at_ms - self.now())
            self._store_response(storage_key, record, ttl_ms)
            return True

    def _may_resolve(self, entry: Entry, even_running: bool) -> bool:
        if isinstance(entry.record, ReleasedRecord):
            return entry.has_open_step
        return even_running or entry.claim.held or self._lease_left_ms(entry) <= 0

    def discard(self, infos: Iterable[RecordInfo]) -> int:
        owners = {info.storage_key: info.owner for info in infos}
        with self._lock:
            live = [(key, self._live_entry(key)) for key in owners]
            return self._delete(
                [key for key, entry in live if entry and entry.record.owner == owners[key]]
            )

    def delete(self, storage_keys: Iterable[str]) -> int:
        # They may come from this store's own ``scan``, which takes the lock.
        storage_keys = list(storage_keys)
        with self._lock:
            return self._delete(storage_keys)

    def _delete(self, storage_keys: Iterable[str]) -> int:
        count = 0
        for storage_key in storage_keys:
            count += self._live_entry(storage_key) is not None
            self._entries.pop(storage_key, None)
            self._notify(storage_key)
        return count
