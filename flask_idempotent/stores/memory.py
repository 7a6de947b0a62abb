"""The store in this process's memory: for unit tests, and where no server can run.

Other processes have no access to it, so it does not protect an application with several workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from flask_idempotent.records import CompletedRecord, Record, ReleasedRecord, RunningRecord
from flask_idempotent.sealing import Sealer
from flask_idempotent.stores.base import (
    Busy,
    Claimed,
    ClaimResult,
    Completion,
    ContendResult,
    Renewal,
    Step,
    StepResult,
)
from flask_idempotent.stores.expiring import NO_STEPS, Entry, Steps
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.stores.memory_records import MemoryRecords
from flask_idempotent.stores.waiters import Waiter, WaiterQueue


class MemoryStore(MemoryRecords, InspectableStore):
    """Keeps records in this process.

    :param clock: returns seconds, for leases and times to live.
    """

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._entries)} records>"

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
                    return self._follow(storage_key, record, entry, ttl_ms)
                return current
            if isinstance(current, ReleasedRecord) and not entry.has_open_step:
                return self._follow(storage_key, record, entry, ttl_ms)
            if _runs(current, record.owner):
                return self._claim_again(storage_key, record, entry, ttl_ms, decides=decides)
            return self._take_over(
                storage_key, record, entry, ttl_ms, takeover=takeover, decides=decides
            )

    def _take_over(
        self,
        storage_key: str,
        record: RunningRecord,
        entry: Entry,
        ttl_ms: int,
        *,
        takeover: bool,
        decides: bool,
    ) -> Claimed | Busy | CompletedRecord:
        """Take over from another's claim that has lapsed, or say how long its lease still lasts."""
        lease_left_ms, claim = self._lease_left_ms(entry), entry.claim
        is_open = lease_left_ms <= 0 and entry.has_open_step
        is_same_request = claim.fingerprint == record.fingerprint
        if lease_left_ms > 0 or not takeover or not is_same_request:
            return Busy(claim.fingerprint, lease_left_ms, claim.started, claim.held or is_open)
        if entry.offer is not None:
            self._store_response(storage_key, entry.offer, ttl_ms)
            return entry.offer
        if decides:
            record = record.decide_about(claim)
        elif is_open:
            return Busy(claim.fingerprint, lease_left_ms, claim.started, held=True)
        return self._follow(storage_key, record, entry, ttl_ms)._replace(dead=claim)

    def _claim_again(
        self, storage_key: str, record: RunningRecord, entry: Entry, ttl_ms: int, *, decides: bool
    ) -> Claimed | CompletedRecord:
        """Claim for an owner that has the key: its reply was lost, or the view begins."""
        current = entry.record
        assert isinstance(current, RunningRecord), "it has an owner"
        if decides or not current.died:
            entry.expires_at_ms = self.now() + ttl_ms
            dead = current if current.died else None
            return Claimed(current.attempt, current.first_attempt, dead)
        if entry.offer is not None:
            self._store_response(storage_key, entry.offer, ttl_ms)
            return entry.offer
        entry.drop_open_steps()
        record = record._replace(attempt=current.attempt, first_attempt=current.first_attempt)
        return self._grant(storage_key, record, ttl_ms, entry.steps)

    def _follow(
        self, storage_key: str, record: RunningRecord, entry: Entry, ttl_ms: int
    ) -> Claimed:
        """Claim as the next attempt, which has the steps of those before it for its request."""
        earlier = entry.record
        is_same_request = earlier.fingerprint == record.fingerprint
        steps = entry.steps if is_same_request else NO_STEPS
        return self._grant(storage_key, record.follow(earlier), ttl_ms, steps)

    def _grant(
        self, storage_key: str, record: RunningRecord, ttl_ms: int, steps: Steps = NO_STEPS
    ) -> Claimed:
        self._put(storage_key, record, ttl_ms, steps)
        return Claimed(record.attempt, record.first_attempt)

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
        record = entry.record
        if not isinstance(record, RunningRecord) or not _runs(record, renewal.record.owner):
            return False
        entry.record = record._replace(grace_ms=renewal.record.grace_ms)
        entry.expires_at_ms = self.now() + renewal.ttl_ms
        return True

    def write_step(
        self, storage_key: str, record: RunningRecord, step: Step, *, ttl_ms: int | None
    ) -> StepResult | Step:
        with self._lock:
            entry = self._live_entry(storage_key)
            if entry is None:
                return StepResult.GONE
            current = entry.record
            if not isinstance(current, RunningRecord) or not _runs(current, record.owner):
                return StepResult.LOST
            earlier = entry.steps.get(step.name)
            if earlier is None or earlier.owner == step.owner or step.value is not None:
                self._write_step(entry, step)
                entry.expires_at_ms += record.grace_ms - current.grace_ms
                if ttl_ms is not None:
                    entry.expires_at_ms = self.now() + ttl_ms
                entry.record = current._replace(grace_ms=record.grace_ms)
                return StepResult.WRITTEN
            return earlier

    def _write_step(self, entry: Entry, step: Step) -> None:
        earlier = entry.steps.get(step.name)
        # A command that was sent twice may arrive after the step has ended.
        if step.value is not None or earlier is None or earlier.value is None:
            entry.steps = {**entry.steps, step.name: step}

    def read_steps(self, storage_key: str, fingerprint: bytes) -> list[Step]:
        with self._lock:
            entry = self._live_entry(storage_key)
            if entry is None or entry.record.fingerprint != fingerprint:
                return []
            return sorted(entry.steps.values(), key=lambda step: step.time)

    def complete(
        self, storage_key: str, record: CompletedRecord, *, ttl_ms: int, has_steps: bool = False
    ) -> Completion:
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
        has_steps: bool = False,
        unstarted: str = "",
    ) -> bool:
        with self._lock:
            entry = self._live_entry(storage_key)
            if entry is None or entry.record.owner != owner:
                return False
            record = entry.record
            if isinstance(record, ReleasedRecord) and owner_may_run and entry.has_open_step:
                entry.drop_open_steps()
            elif not isinstance(record, RunningRecord):
                return False
            elif entry.offer is not None:
                self._put(storage_key, entry.offer, response_ttl_ms)
            elif record.died and not owner_may_run:
                self._leave_undecided(entry, record, holds=holds)
            else:
                if owner_may_run:
                    entry.drop_open_steps()
                entry.drop_open_step(unstarted, owner)
                self._give_up(storage_key, entry, tombstone_ttl_ms, owner_may_run=owner_may_run)
            self._notify(storage_key, entry.offer)
            return True

    def _leave_undecided(self, entry: Entry, record: RunningRecord, *, holds: bool) -> None:
        """Leave the claim of an owner that was to decide, and has not, or has held the key."""
        if holds:
            entry.record = record._replace(held=True)
        elif not record.held:
            entry.expires_at_ms = self.now() + max(1, record.grace_ms)

    def _give_up(
        self, storage_key: str, entry: Entry, tombstone_ttl_ms: int, *, owner_may_run: bool
    ) -> None:
        """Leave a tombstone where a run or a step of the key may be needed later, else nothing."""
        if entry.steps:
            tombstone_ttl_ms = max(tombstone_ttl_ms, entry.expires_at_ms - self.now())
        claim = entry.claim
        if owner_may_run or claim.attempt > 1 or entry.steps:
            self._put(storage_key, claim.tombstone(), tombstone_ttl_ms, entry.steps)
        else:
            del self._entries[storage_key]

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


def _runs(record: Record, owner: bytes) -> bool:
    """Whether a record is the claim of this owner, which has not decided to hold it."""
    return isinstance(record, RunningRecord) and record.owner == owner and not record.held
