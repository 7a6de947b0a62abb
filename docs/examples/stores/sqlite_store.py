"""A store in one SQLite file, for the processes of one machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flask_idempotent.records import CompletedRecord, Record, ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import (
    Busy,
    Claimed,
    ClaimResult,
    Completion,
    ContendResult,
    Renewal,
    Step,
    StepResult,
    Store,
)
from flask_idempotent.stores.waiters import Notification, Waiter, WaiterQueue
from sqlite_rows import Row, Rows, now


class SQLiteStore(Store):
    def __init__(self, path: Path) -> None:
        self._rows = Rows(path)
        self._lock = threading.Lock()
        self._queues: dict[str, WaiterQueue] = {}

    def claim(self, storage_key: str, record: RunningRecord, *, ttl_ms: int) -> ClaimResult:
        with self._rows.row(storage_key) as row:
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
        with self._rows.row(storage_key) as row:
            current = row.record
            if current is None:
                return self._run(row, record, ttl_ms)
            if isinstance(current, CompletedRecord) and current.owner != replaces:
                return current
            is_released = isinstance(current, ReleasedRecord) and not row.is_open
            if isinstance(current, CompletedRecord) or is_released:
                return self._run_next(row, record, ttl_ms)
            result: ContendResult
            if row.belongs_to(record.owner):
                result = self._claim_again(row, record, ttl_ms, decides)
            else:
                result = self._take_over(row, record, ttl_ms, takeover, decides)
        if isinstance(result, CompletedRecord):
            self._notify(storage_key)
        return result

    def _claim_again(
        self, row: Row, record: RunningRecord, ttl_ms: int, decides: bool
    ) -> Claimed | CompletedRecord:
        """Claim for the key's owner: its reply was lost, or it has decided that the view runs."""
        current = row.claim
        if decides or not current.died:
            row.ends = now() + ttl_ms
            dead = current if current.died else None
            return Claimed(current.attempt, current.first_attempt, dead)
        if row.offer is not None:
            return self._store(row, row.offer, ttl_ms)
        row.drop_open_steps()
        first = current.first_attempt
        return self._run(row, record._replace(attempt=current.attempt, first_attempt=first), ttl_ms)

    def _take_over(
        self, row: Row, record: RunningRecord, ttl_ms: int, takeover: bool, decides: bool
    ) -> ContendResult:
        claim, lease_left_ms = row.claim, 0
        if isinstance(row.record, RunningRecord):
            lease_left_ms = row.ends - claim.grace_ms - now()
        is_open = lease_left_ms <= 0 and row.is_open
        busy = Busy(claim.fingerprint, lease_left_ms, claim.started, claim.held or is_open)
        if lease_left_ms > 0 or not takeover or claim.fingerprint != record.fingerprint:
            return busy
        if row.offer is not None:
            return self._store(row, row.offer, ttl_ms)
        if is_open and not decides:
            return busy
        if decides:
            record = record.decide_about(claim)
        return self._run_next(row, record, ttl_ms)._replace(dead=claim)

    def _run_next(self, row: Row, record: RunningRecord, ttl_ms: int) -> Claimed:
        """Claim as the next attempt, with the steps of the earlier ones of the same request."""
        assert row.record is not None
        if row.record.fingerprint != record.fingerprint:
            row.steps = {}
        return self._run(row, record.follow(row.record), ttl_ms)

    def _run(self, row: Row, record: RunningRecord, ttl_ms: int) -> Claimed:
        row.record, row.offer, row.ends = record, None, now() + ttl_ms
        return Claimed(record.attempt, record.first_attempt)

    def _store(self, row: Row, record: CompletedRecord, ttl_ms: int) -> CompletedRecord:
        row.record, row.offer, row.steps, row.ends = record, None, {}, now() + ttl_ms
        return record

    def renew(self, renewals: Sequence[Renewal], *, restore_within_ms: int) -> list[bool | None]:
        until = now() + restore_within_ms
        return [self._renew(renewal, until) for renewal in renewals]

    def _renew(self, renewal: Renewal, until: int) -> bool | None:
        with self._rows.row(renewal.storage_key) as row:
            if row.record is None:
                if now() > until:
                    return None
                self._run(row, renewal.record, renewal.ttl_ms)
                return True
            if not row.belongs_to(renewal.record.owner):
                return False
            row.record = row.claim._replace(grace_ms=renewal.record.grace_ms)
            row.ends = now() + renewal.ttl_ms
            return True

    def write_step(
        self, storage_key: str, record: RunningRecord, step: Step, *, ttl_ms: int | None
    ) -> StepResult | Step:
        with self._rows.row(storage_key) as row:
            if row.record is None:
                return StepResult.GONE
            if not row.belongs_to(record.owner):
                return StepResult.LOST
            earlier = row.steps.get(step.name)
            if earlier is None or step.value is not None:
                row.steps[step.name] = step
            elif earlier.owner != step.owner:
                return earlier
            row.ends += record.grace_ms - row.claim.grace_ms
            row.record = row.claim._replace(grace_ms=record.grace_ms)
            if ttl_ms is not None:
                row.ends = now() + ttl_ms
            return StepResult.WRITTEN

    def read_steps(self, storage_key: str, fingerprint: bytes) -> list[Step]:
        with self._rows.row(storage_key) as row:
            if row.record is None or row.record.fingerprint != fingerprint:
                return []
            return sorted(row.steps.values(), key=lambda step: step.time)

    def complete(
        self, storage_key: str, record: CompletedRecord, *, ttl_ms: int, has_steps: bool = False
    ) -> Completion:
        with self._rows.row(storage_key) as row:
            current = row.record
            if isinstance(current, CompletedRecord):
                return Completion.STORED if current.owner == record.owner else Completion.REFUSED
            if current is not None and current.owner != record.owner:
                is_earlier = record.attempt < current.first_attempt
                if is_earlier or current.fingerprint != record.fingerprint:
                    return Completion.REFUSED
                if row.belongs_to(current.owner):
                    row.offer = row.offer or record
                    return Completion.OFFERED
            self._store(row, record, ttl_ms)
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
        has_steps: bool = False,
        unstarted: str = "",
    ) -> bool:
        with self._rows.row(storage_key) as row:
            current = row.record
            if current is None or current.owner != owner or isinstance(current, CompletedRecord):
                return False
            if isinstance(current, ReleasedRecord):
                if not (owner_may_run and row.is_open):
                    return False
                row.drop_open_steps()
            elif row.offer is not None:
                self._store(row, row.offer, response_ttl_ms)
            elif current.died and not owner_may_run:
                if holds:
                    row.record = current._replace(held=True)
                elif not current.held:
                    row.ends = now() + max(1, current.grace_ms)
            else:
                if owner_may_run:
                    row.drop_open_steps()
                row.drop_open_step(unstarted, owner)
                self._give_up(row, current, tombstone_ttl_ms, owner_may_run)
        self._notify(storage_key)
        return True

    def _give_up(
        self, row: Row, claim: RunningRecord, tombstone_ttl_ms: int, owner_may_run: bool
    ) -> None:
        ends = now() + tombstone_ttl_ms
        if row.steps:
            row.record, row.ends = claim.tombstone(), max(ends, row.ends)
        elif claim.attempt > 1 or owner_may_run:
            row.record, row.ends = claim.tombstone(), ends
        else:
            row.record = None

    def read(self, storage_key: str) -> Record | None:
        with self._rows.row(storage_key) as row:
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
