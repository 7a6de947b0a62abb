"""The fields of a record, for people and for programs."""

from __future__ import annotations

import time
from typing import Any

from flask_idempotent.cli import formatting
from flask_idempotent.records import CompletedSummary, ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import RecordInfo


def state(info: RecordInfo) -> str:
    """The state of a record: in progress, completed, released or unreadable."""
    match info.record:
        case RunningRecord():
            return "in progress"
        case CompletedSummary():
            return "completed"
        case ReleasedRecord():
            return "released"
    return "unreadable"


def since(info: RecordInfo) -> float | None:
    """When the run started or, for a completed record, ended: seconds since 1970."""
    match info.record:
        case RunningRecord(started=at) | ReleasedRecord(started=at) | CompletedSummary(time=at):
            return at
    return None


def age(info: RecordInfo) -> float | None:
    """Seconds since the run started or ended; None for an unreadable record."""
    at = since(info)
    return None if at is None else max(0.0, time.time() - at)


def ago(info: RecordInfo) -> str:
    """How long ago the run started or ended, and when."""
    at = formatting.timestamp(since(info))
    return f"{formatting.duration(age(info) or 0)} ago" + (f", at {at}" if at else "")


def is_older(info: RecordInfo, seconds: float | None) -> bool:
    """Whether a record is older than this. None selects every record, of any age or none."""
    return seconds is None or (age(info) or 0) > seconds


def request(record: RunningRecord | ReleasedRecord | CompletedSummary | None) -> str:
    """The request that a record is for: its method, and the endpoint of its route."""
    return "-" if record is None else f"{record.method} {record.endpoint}".strip() or "-"


def owner(record: RunningRecord | ReleasedRecord) -> str:
    """The host and the process that run the view, or did."""
    return f"{record.host}, process {record.pid}"


def lease(info: RecordInfo) -> str:
    """How long the lease still lasts, or how long ago it lapsed; and the step that is open then."""
    at_step = f"at {', '.join(info.open_steps)}"
    if info.lease_left_ms is None:
        return f"held {at_step}" if info.is_resolvable else "-"
    left = info.lease_left_ms / 1000
    if isinstance(info.record, RunningRecord) and info.record.held and left > 0:
        return f"held for {formatting.duration(left)}"
    if info.lease_lapsed:
        lapsed = f"lapsed {formatting.duration(-left)} ago"
        return f"{lapsed}, {at_step}" if info.open_steps else lapsed
    return f"{formatting.duration(left)} left"


def expires(info: RecordInfo) -> str:
    """When a record ends."""
    return "never" if info.ttl_ms < 0 else f"in {formatting.duration(info.ttl_ms / 1000)}"


def waiters(info: RecordInfo) -> str:
    """How many processes wait for the response."""
    if info.waiters is None:
        return "unknown"
    return formatting.quantity(info.waiters, "process", "es")


def as_dict(info: RecordInfo) -> dict[str, Any]:
    """A record for programs: durations in seconds, None where a field does not apply."""
    running = info.record if isinstance(info.record, RunningRecord | ReleasedRecord) else None
    answered = info.record if isinstance(info.record, CompletedSummary) else None
    return {
        "storage_key": info.storage_key,
        "state": state(info),
        "method": info.record and info.record.method,
        "endpoint": info.record and info.record.endpoint,
        "attempt": info.record and info.record.attempt,
        "started": formatting.timestamp(running and running.started),
        "completed": formatting.timestamp(answered and answered.time),
        "age": age(info),
        "host": running and running.host,
        "pid": running and running.pid,
        "lease_left": None if info.lease_left_ms is None else info.lease_left_ms / 1000,
        "lapsed": info.lease_lapsed,
        "held": info.is_resolvable,
        "steps": [{"name": name, "state": state} for name, state in info.steps.items()],
        "waiters": info.waiters,
        "status": answered and answered.status_code,
        "expires_in": None if info.ttl_ms < 0 else info.ttl_ms / 1000,
        "size": info.size,
        "damage": info.damage or None,
    }
