"""The store in this process's memory: for unit tests, and where no server can run.

Other processes have no access to it, so it does not protect an application with several workers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from flask_idempotent._sealing import Sealer
from flask_idempotent.record_format import encode
from flask_idempotent.records import (
    CompletedRecord,
    Record,
    ReleasedRecord,
    RunningRecord,
    summary_of,
)
from flask_idempotent.stores.base import (
    Busy,
    Claimed,
    ClaimResult,
    Completion,
    ContendResult,
    RecordInfo,
    Renewal,
)
from flask_idempotent.stores.expiring import Entry, ExpiringRecords
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.stores.waiters import Notification, Waiter, WaiterQueue


class MemoryStore(ExpiringRecords, InspectableStore):
    """Keeps records in this process.

    :param clock: returns seconds, for leases and times to live.
    """

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[str, WaiterQueue] = {}

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._entries)} records>"

    def _notify(self, storage_key: str, record: CompletedRecord | None = None) -> None:
        waiters = self._waiters.get(storage_key)
        if waiters is not None:
            waiters.notify(None if record is None else Notification.of(record))

    def claim(self, storage_key: str, record: RunningRecord, *, ttl_ms: int) -> ClaimResult:
        with self._lock:
            entry = self._live_entry(storage_key)
            if entry is not None:
                return entry.record
            return self._grant(storage_key, record._replace(attempt=1, first_attempt=1), ttl_ms)

    def contend(
        self,
        storage_key: str,
        record: RunningRecord,
        *,
        ttl_ms: int,
        takeover: bool,
        replaces: bytes | None = None,
        decides: bool = False,
    ) -> ContendResult:
        with self._lock:
            entry = self._live_entry(storage_key)
            if entry is None:
                return self._grant(storage_key, record._replace(attempt=1, first_attempt=1), ttl_ms)
            current = entry.record
            if isinstance(current, CompletedRecord):
                if current.owner == replaces:
                    return self._follow(storage_key, record, current, ttl_ms)
                return current
            if isinstance(current, ReleasedRecord):
                return self._follow(storage_key, record, current, ttl_ms)
            if current.owner == record.owner and not current.held:
                return self._claim_again(storage_key, record, entry, ttl_ms, decides=decides)
            lease_left_ms = entry.expires_at_ms - self.now() - current.grace_ms
            is_same_request = current.fingerprint == record.fingerprint
            if lease_left_ms > 0 or not takeover or not is_same_request:
                return Busy(current.fingerprint, lease_left_ms, current.started, current.held)
            if entry.offer is not None:
                self._store_response(storage_key, entry.offer, ttl_ms)
                return entry.offer
            if decides:
                record = record.decide_about(current)
            return self._follow(storage_key, record, current, ttl_ms)._replace(dead=current)

    def _claim_again(
        self, storage_key: str, record: RunningRecord, entry: Entry, ttl_ms: int, *, decides: bool
    ) -> Claimed | CompletedRecord:
        """Claim for an owner that has the key: its reply was lost, or the view begins."""
        current = entry.record
        assert isinstance(current, RunningRecord), "it has an owner"
        if not current.died:
            return self._grant(storage_key, current, ttl_ms, entry.offer)
        if decides:
            return self._grant(storage_key, current, ttl_ms, entry.offer)._replace(dead=current)
        if entry.offer is not None:
            self._store_response(storage_key, entry.offer, ttl_ms)
            return entry.offer
        record = record._replace(attempt=current.attempt, first_attempt=current.first_attempt)
        return self._grant(storage_key, record, ttl_ms)

    def _follow(
        self, storage_key: str, record: RunningRecord, earlier: Record, ttl_ms: int
    ) -> Claimed:
        return self._grant(storage_key, record.follow(earlier), ttl_ms)

    def _grant(
        self,
        storage_key: str,
        record: RunningRecord,
        ttl_ms: int,
        offer: CompletedRecord | None = None,
    ) -> Claimed:
        self._put(storage_key, record, ttl_ms)
        self._entries[storage_key].offer = offer
        return Claimed(record.attempt, record.first_attempt)

    def _store_response(self, storage_key: str, record: CompletedRecord, ttl_ms: int) -> None:
        self._put(storage_key, record, ttl_ms)
        self._notify(storage_key, record)

    def renew(self, renewals: Sequence[Renewal], *, restore_within_ms: int) -> list[bool | None]:
        until = self.now() + restore_within_ms
        with self._lock:
            return [self._renew(renewal, until) for renewal in renewals]

    def _renew(self, renewal: Renewal, until: int) -> bool | None:
        entry = self._live_entry(renewal.storage_key)
        if entry is None:
            if self.now() > until:
                return None
            self._grant(renewal.storage_key, renewal.record, renewal.ttl_ms)
            return True
        old = entry.record
        if not isinstance(old, RunningRecord) or old.owner != renewal.record.owner or old.held:
            return False
        self._grant(renewal.storage_key, old, renewal.ttl_ms, entry.offer)
        return True

    def complete(self, storage_key: str, record: CompletedRecord, *, ttl_ms: int) -> Completion:
        with self._lock:
            entry = self._live_entry(storage_key)
            if entry is not None:
                old = entry.record
                ours = old.owner == record.owner
                if isinstance(old, CompletedRecord):
                    return Completion.STORED if ours else Completion.REFUSED
                if not ours and not _is_of_this_request(old, record):
                    return Completion.REFUSED
                if not ours and isinstance(old, RunningRecord) and not old.held:
                    if entry.offer is None:
                        entry.offer = record
                    return Completion.OFFERED
            self._store_response(storage_key, record, ttl_ms)
            return Completion.STORED

    def release(
        self,
        storage_key: str,
        owner: bytes,
        *,
        response_ttl_ms: int,
        tombstone_ttl_ms: int,
        owner_may_run: bool = False,
        holds: bool = False,
    ) -> bool:
        with self._lock:
            entry = self._live_entry(storage_key)
            if entry is None or not isinstance(entry.record, RunningRecord):
                return False
            record = entry.record
            if record.owner != owner:
                return False
            self._notify(storage_key, entry.offer)
            if entry.offer is not None:
                self._put(storage_key, entry.offer, response_ttl_ms)
            elif record.died and not owner_may_run:
                if holds:
                    entry.record = record._replace(held=True)
                elif not record.held:
                    entry.expires_at_ms = self.now() + max(1, record.grace_ms)
            elif owner_may_run or record.attempt > 1:
                self._put(storage_key, record.tombstone(), tombstone_ttl_ms)
            else:
                del self._entries[storage_key]
            return True

    @contextmanager
    def listen(self, storage_key: str, seconds: float) -> Iterator[Waiter]:
        with self._lock:
            waiters = self._waiters.setdefault(storage_key, WaiterQueue())
            waiter = waiters.join()
        try:
            yield waiter
        finally:
            with self._lock:
                waiters.leave(waiter)
                if not waiters and self._waiters.get(storage_key) is waiters:
                    del self._waiters[storage_key]

    def read(self, storage_key: str) -> Record | None:
        with self._lock:
            entry = self._live_entry(storage_key)
            return None if entry is None else entry.record

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
        return RecordInfo(
            storage_key, summary_of(record), ttl_ms, size, lease_left_ms, waiters, record.owner
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
            if entry is None or not isinstance(entry.record, RunningRecord):
                return entry is not None and entry.record.owner == record.owner
            left_ms = entry.expires_at_ms - self.now()
            lapsed = entry.record.held or left_ms <= entry.record.grace_ms
            if entry.record.owner != owner or not (lapsed or even_running):
                return False
            self._store_response(storage_key, record, max(ttl_ms, left_ms))
            return True

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

    def ping(self) -> None:
        """Do nothing: a process that can ask is alive."""

    def facts(self) -> Sequence[Mapping[str, str]]:
        return ()

    def confirmed_by(self, replicas: int) -> MemoryStore:
        # No failover can lose its records, and tests need not change the settings of views.
        return self

    def sealed_with(self, sealer: Sealer) -> MemoryStore:
        # Who can read this process's memory can read the secrets as well.
        return self

    def close(self) -> None:
        """Do nothing: the records stay for others that use this store."""


def _is_of_this_request(old: RunningRecord | ReleasedRecord, late: CompletedRecord) -> bool:
    return old.fingerprint == late.fingerprint and late.attempt >= old.first_attempt
