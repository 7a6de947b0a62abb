"""Polls all records, and reports what has changed since the previous poll."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from flask_idempotent.records import CompletedSummary, ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import RecordInfo
from flask_idempotent.stores.inspectable import InspectableStore


class Event(enum.StrEnum):
    """What happened."""

    #: The first poll has seen a claim whose view runs.
    IN_PROGRESS = "in progress"
    #: A request has claimed the key, and its view runs.
    CLAIMED = "claimed"
    #: The same, after an earlier owner died.
    TAKEN_OVER = "taken over"
    #: More processes than before wait for the response.
    WAITING = "waiting"
    #: The lease of a claim has ended.
    LAPSED = "lapsed"
    #: A response was stored.
    COMPLETED = "completed"
    #: The claim was given up, and a tombstone is left.
    RELEASED = "released"
    #: A claim is no longer there.
    GONE = "gone"
    #: The record cannot be read.
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a record.

    :param event: what happened.
    :param storage_key: name of the record.
    :param run: the run that it happened to; None where no poll has seen it.
    :param response: the stored response, without headers and body.
    :param waiters: how many processes wait for the run; None where the store does not say.
    :param open_steps: where nobody runs it, the steps that began and are not known to have ended.
    """

    event: Event
    storage_key: str
    run: RunningRecord | ReleasedRecord | None = None
    response: CompletedSummary | None = None
    waiters: int | None = None
    open_steps: tuple[str, ...] = ()


@dataclass(slots=True)
class RecordPoller:
    """Reads the records of a store, and compares them with the previous poll.

    Requests are not involved. A run that begins and ends between two polls is seen only as a stored
    response, or not at all.

    :param store: the store.
    :param prefix: what the names of its records begin with.
    """

    store: InspectableStore
    prefix: str
    _records: Mapping[str, RecordInfo] = field(default_factory=dict)
    _has_polled: bool = False

    def poll(self) -> list[Change]:
        """Read all records.

        The first poll reports what is in progress or held at a step, each later one what has
        changed since.

        :raises StoreError: when the store fails. Nothing is lost: the next poll compares with the
            last one that succeeded.
        """
        before = self._records
        running = {key for key, info in before.items() if isinstance(info.record, RunningRecord)}
        # Claims are read by name too: SCAN may miss a record while a cluster moves its slot.
        names = running.union(self.store.scan(self.prefix))
        records = {info.storage_key: info for info in self.store.inspect(names)}
        changes: list[Change] = []
        for key, info in records.items():
            changes += _changes(before.get(key), info) if self._has_polled else _state(info)
        for key in running - records.keys():
            changes.append(Change(Event.GONE, key, _run(before[key])))
        self._records, self._has_polled = records, True
        return changes


def _state(now: RecordInfo) -> Iterator[Change]:
    """Report what the first poll sees of a record, unless its run is over."""
    if isinstance(now.record, RunningRecord):
        yield Change(Event.IN_PROGRESS, now.storage_key, now.record, waiters=now.waiters)
        if now.lease_lapsed:
            yield _lapsed(now)
    elif isinstance(now.record, ReleasedRecord) and now.is_resolvable:
        yield _released(now)
    elif now.record is None:
        yield Change(Event.UNREADABLE, now.storage_key)


def _changes(before: RecordInfo | None, now: RecordInfo) -> Iterator[Change]:
    """Compare what two polls see of a record."""
    record = now.record
    earlier = before if before is not None and before.owner == now.owner else None
    if earlier is not None and type(earlier.record) is type(record):
        yield from _progress(earlier, now)
    elif isinstance(record, RunningRecord):
        yield Change(_beginning(before, record), now.storage_key, record, waiters=now.waiters)
        if now.lease_lapsed:
            yield _lapsed(now)
    elif isinstance(record, CompletedSummary):
        yield Change(Event.COMPLETED, now.storage_key, _run(earlier), record)
    elif isinstance(record, ReleasedRecord):
        yield _released(now)
    else:
        yield Change(Event.UNREADABLE, now.storage_key)


def _progress(earlier: RecordInfo, now: RecordInfo) -> Iterator[Change]:
    """Compare what two polls see of the same run."""
    if now.lease_lapsed and not earlier.lease_lapsed:
        yield _lapsed(now)
    if (now.waiters or 0) > (earlier.waiters or 0):
        yield Change(Event.WAITING, now.storage_key, _run(now), waiters=now.waiters)


def _lapsed(now: RecordInfo) -> Change:
    return Change(Event.LAPSED, now.storage_key, _run(now), None, now.waiters, now.open_steps)


def _released(now: RecordInfo) -> Change:
    return Change(Event.RELEASED, now.storage_key, _run(now), open_steps=now.open_steps)


def _beginning(before: RecordInfo | None, record: RunningRecord) -> Event:
    # After a tombstone or a corrected response the attempt number continues, but no owner died.
    may_have_died = before is None or isinstance(before.record, RunningRecord)
    return Event.TAKEN_OVER if record.attempt > 1 and may_have_died else Event.CLAIMED


def _run(info: RecordInfo | None) -> RunningRecord | ReleasedRecord | None:
    record = None if info is None else info.record
    return record if isinstance(record, RunningRecord | ReleasedRecord) else None
