"""The steps of a record: names, states and times. What a step returned is never shown."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from flask_idempotent.cli import formatting
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.records import ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import RecordInfo
from flask_idempotent.stores.inspectable import InspectableStore


def step_pairs(store: InspectableStore, info: RecordInfo) -> Iterator[tuple[str, str]]:
    """Describe each step of a record for people, in the order of time."""
    for name, at in _times(store, info).items():
        when = "at an unknown time" if at is None else _ago(at)
        if info.steps[name] == "ended":
            yield "Step", f"{name}: ended {when}"
        else:
            yield "Step", f"{name}: began {when}, and is not known to have ended"


def steps_as_dicts(store: InspectableStore, info: RecordInfo) -> list[dict[str, str | None]]:
    """Describe each step of a record for programs, in the order of time."""
    return [
        {"name": name, "state": info.steps[name], "at": formatting.timestamp(at)}
        for name, at in _times(store, info).items()
    ]


def what_runs(info: RecordInfo | None) -> str:
    """Say what the next request does with a key that is freed.

    :param info: the record of the key; None where it has none.
    """
    consequence = "The next request with its key runs the view"
    open_steps = () if info is None else info.open_steps
    recorded = 0 if info is None else len(info.steps) - len(open_steps)
    details = []
    if recorded:
        details.append(f"goes on after {formatting.quantity(recorded, 'recorded step')}")
    if open_steps:
        details.append(f"runs {' and '.join(open_steps)} again")
    return f"{consequence}, which {' and '.join(details)}." if details else f"{consequence}."


def _times(store: InspectableStore, info: RecordInfo) -> Mapping[str, float | None]:
    """The names of a record's steps, with the time of each where it can be read."""
    if not info.steps or not isinstance(info.record, RunningRecord | ReleasedRecord):
        return {}
    try:
        steps = store.read_steps(info.storage_key, info.record.fingerprint)
    except RecordUnreadable:
        steps = []
    times = {step.name: step.time for step in steps if step.name in info.steps}
    return times | {name: None for name in info.steps if name not in times}


def _ago(at: float) -> str:
    timestamp = formatting.timestamp(at)
    ago = f"{formatting.duration(max(0.0, time.time() - at))} ago"
    return f"{ago}, at {timestamp}" if timestamp else ago
