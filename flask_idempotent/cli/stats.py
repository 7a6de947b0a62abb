"""The command ``stats``: how many records there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import click
from flask.cli import with_appcontext

from flask_idempotent.cli import formatting, record_fields
from flask_idempotent.cli.options import json_option, progress, this_prefix, this_store
from flask_idempotent.stores.base import RecordInfo


@click.command("stats")
@json_option
@with_appcontext
def stats_command(as_json: bool) -> None:
    """Count records by state."""
    store = this_store()
    with progress(store.inspect(set(store.scan(this_prefix()))), "Reading records") as records:
        counts = _count(records)
    if as_json:
        formatting.write_json(counts)
    else:
        formatting.write_pairs(_lines(counts))


def _count(records: Iterable[RecordInfo]) -> dict[str, Any]:
    counts: dict[str, Any] = dict.fromkeys(_COUNTS, 0)
    counts |= {"oldest_in_progress": None, "oldest_completed": None, "oldest_released": None}
    for info in records:
        state = record_fields.state(info).replace(" ", "_")
        counts["records"] += 1
        counts["size"] += info.size
        counts[state] += 1
        counts["lapsed"] += info.lease_lapsed
        counts["held_at_step"] += info.is_resolvable and bool(info.open_steps)
        counts["with_waiters"] += bool(info.waiters)
        age = record_fields.age(info)
        if age is not None:
            counts[f"oldest_{state}"] = max(counts[f"oldest_{state}"] or 0, age)
    return counts


def _lines(counts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    def with_oldest(state: str) -> str:
        age = counts[f"oldest_{state}"]
        oldest = f", the oldest {formatting.duration(age)} old" if age else ""
        return f"{counts[state]}{oldest}"

    yield "Records", f"{counts['records']}, {formatting.size(counts['size'])}"
    yield "In progress", with_oldest("in_progress")
    yield "  lapsed", str(counts["lapsed"])
    yield "  with waiters", str(counts["with_waiters"])
    yield "Completed", with_oldest("completed")
    yield "Released", with_oldest("released")
    yield "Held at a step", str(counts["held_at_step"])
    yield "Unreadable", str(counts["unreadable"])


_COUNTS = (
    "records", "size", "in_progress", "lapsed", "with_waiters", "completed", "released",
    "held_at_step", "unreadable",
)  # fmt: skip
