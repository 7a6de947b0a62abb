"""A store in one SQLite file, for the processes of one machine."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.record_format import decode, encode
from flask_idempotent.records import CompletedRecord, Record, ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import (
    Busy,
    Claimed,
    ClaimResult,
    Completion,
    ContendResult,
    Renewal,
    Store,
)
from flask_idempotent.stores.waiters import Notification, Waiter, WaiterQueue

TABLE = """
CREATE TABLE IF NOT EXISTS records
    (storage_key TEXT PRIMARY KEY, record BLOB, offer BLOB, ends INTEGER)
"""


@dataclass
class Row:
    """What a key has: its record, a late owner's response, and when both are gone."""

    record: Record | None = None
    offer: CompletedRecord | None = None
    ends: int = 0


class SQLiteStore(Store):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._queues: dict[str, WaiterQueue] = {}

    def _now(self) -> int:
        return int(time.time() * 1000)

    @contextmanager
    def _row(self, storage_key: str) -> Iterator[Row]:
        """Give a key's row to change, in a transaction that no other process can come between."""
        try:
            with closing(sqlite3.connect(self._path, timeout=1, isolation_level=None)) as database:
                database.execute(TABLE)
                database.execute("BEGIN IMMEDIATE")
                row = self._select(database, storage_key)
                before = replace(row)
                yield row
                if row != before:
                    self._replace(database, storage_key, row)
                database.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreUnavailable(f"SQLite: {error}") from error

    def _select(self, database: sqlite3.Connection, storage_key: str) -> Row:
        query = "SELECT record, offer, ends FROM records WHERE storage_key = ? AND ends > ?"
        columns = database.execute(query, (storage_key, self._now())).fetchone()
        if columns is None:
            return Row()
        record, offer, ends = columns
        return Row(decode(record), offer and decode(offer), ends)

    def _replace(self, database: sqlite3.Connection, storage_key: str, row: Row) -> None:
        database.execute("DELETE FROM records WHERE storage_key = ?", (storage_key,))
        if row.record is not None:
            columns = (storage_key, encode(row.record), row.offer and encode(row.offer), row.ends)
            database.execute("INSERT INTO records VALUES (?, ?, ?, ?)", columns)

    def claim(self, storage_key: str, record: RunningRecord, *, ttl_ms: int) -> ClaimResult:
        with self._row(storage_key) as row:
            if row.record is None:
                return self._run(row, record, ttl_ms)
            return row.record

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
        with self._row(storage_key) as row:
            current = row.record
            if current is None:
                return self._run(row, record, ttl_ms)
            if isinstance(current, CompletedRecord):
                if current.owner != replaces:
                    return current
                return self._run(row, record.follow(current), ttl_ms)
            if isinstance(current, ReleasedRecord):
                return self._run(row, record.follow(current), ttl_ms)
            is_ours = current.owner == record.owner and not current.held
            if is_ours and (decides or not current.died):
                row.ends = self._now() + ttl_ms
                dead = current if current.died else None
                return Claimed(current.attempt, current.first_attempt, dead)
            if is_ours and row.offer is None:
                first = current.first_attempt
                record = record._replace(attempt=current.attempt, first_attempt=first)
                return self._run(row, record, ttl_ms)
            lease_left_ms = row.ends - current.grace_ms - self._now()
            is_same_request = current.fingerprint == record.fingerprint
            if not is_ours and (lease_left_ms > 0 or not takeover or not is_same_request):
                return Busy(current.fingerprint, lease_left_ms, current.started, current.held)
            if row.offer is None:
                if decides:
                    record = record.decide_about(current)
                return self._run(row, record.follow(current), ttl_ms)._replace(dead=current)
            row.record, row.offer, row.ends = row.offer, None, self._now() + ttl_ms
            response = row.record
        self._notify(storage_key)
        return response

    def _run(self, row: Row, record: RunningRecord, ttl_ms: int) -> Claimed:
        row.record, row.offer, row.ends = record, None, self._now() + ttl_ms
        return Claimed(record.attempt, record.first_attempt)

    def renew(self, renewals: Sequence[Renewal], *, restore_within_ms: int) -> list[bool | None]:
        until = self._now() + restore_within_ms
        return [self._renew(renewal, until) for renewal in renewals]

    def _renew(self, renewal: Renewal, until: int) -> bool | None:
        with self._row(renewal.storage_key) as row:
            if row.record is None:
                if self._now() > until:
                    return None
                self._run(row, renewal.record, renewal.ttl_ms)
                return True
            current = row.record
            if (
                isinstance(current, RunningRecord)
                and current.owner == renewal.record.owner
                and not current.held
            ):
                row.ends = self._now() + renewal.ttl_ms
                return True
            return False

    def complete(self, storage_key: str, record: CompletedRecord, *, ttl_ms: int) -> Completion:
        with self._row(storage_key) as row:
            current = row.record
            if current is not None:
                is_ours = current.owner == record.owner
                if isinstance(current, CompletedRecord):
                    return Completion.STORED if is_ours else Completion.REFUSED
                is_same_request = current.fingerprint == record.fingerprint
                is_earlier = record.attempt < current.first_attempt
                if not is_ours and (is_earlier or not is_same_request):
                    return Completion.REFUSED
                if not is_ours and isinstance(current, RunningRecord) and not current.held:
                    row.offer = row.offer or record
                    return Completion.OFFERED
            row.record, row.offer, row.ends = record, None, self._now() + ttl_ms
        self._notify(storage_key)
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
        with self._row(storage_key) as row:
            current = row.record
            if not isinstance(current, RunningRecord) or current.owner != owner:
                return False
            if row.offer is not None:
                row.record, row.offer, row.ends = row.offer, None, self._now() + response_ttl_ms
            elif current.died and not owner_may_run:
                if holds:
                    row.record = current._replace(held=True)
                elif not current.held:
                    row.ends = self._now() + max(1, current.grace_ms)
            elif current.attempt > 1 or owner_may_run:
                row.record, row.ends = current.tombstone(), self._now() + tombstone_ttl_ms
            else:
                row.record = None
        self._notify(storage_key)
        return True

    def read(self, storage_key: str) -> Record | None:
        with self._row(storage_key) as row:
            return row.record

    @contextmanager
    def listen(self, storage_key: str, seconds: float) -> Iterator[Waiter]:
        with self._lock:
            queue = self._queues.setdefault(storage_key, WaiterQueue())
            waiter = queue.join()
        try:
            yield waiter
        finally:
            with self._lock:
                queue.leave(waiter)
                if not queue:
                    del self._queues[storage_key]

    def _notify(self, storage_key: str) -> None:
        with self._lock:
            queue = self._queues.get(storage_key)
            if queue is not None:
                queue.notify(Notification(lambda: self.read(storage_key)))

    def close(self) -> None:
        """Each transaction has a connection of its own: there is nothing to close."""
