"""How commands read and write: durations, sizes, tables, and records for people and programs."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click

from flask_idempotent._printable import escaped, printable
from flask_idempotent.records import CompletedSummary, ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import Sight

_LONGEST = 1000 * 365.25 * 86400
#: Longest cell of a table, in characters: a key that others wrote may have any name.
_WIDEST = 200
#: Characters that the last column of a table has at least, however narrow the terminal.
_NARROWEST = 16
_UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> float:
    """Read a time such as ``30s``, ``5m``, ``2h`` or ``1d`` as seconds; a number is seconds."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|d|)", text)
    if parts is None:
        raise click.BadParameter(f"{text!r} is no duration. Write it as 30s, 5m, 2h or 1d.")
    return float(parts[1]) * _UNITS[parts[2]]


def span(seconds: float) -> str:
    """Write a duration for people."""
    if not abs(seconds) < _LONGEST:  # NaN too.
        return "> 1000 years"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def moment(since: float | None) -> str | None:
    """Write a wall clock's time as RFC 3339 has it, in UTC; None where it is no time."""
    with suppress(OverflowError, ValueError, OSError, TypeError):
        return datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")  # type: ignore[arg-type]
    return None


def ago(sight: Sight) -> str:
    """Write when a run began or answered, for people."""
    at = moment(since(sight))
    return f"{span(age(sight) or 0)} ago" + (f", at {at}" if at else "")


def request(record: RunningRecord | ReleasedRecord | CompletedSummary | None) -> str:
    """Write which request a record is for: its method and the endpoint of its route."""
    return "-" if record is None else f"{record.method} {record.endpoint}".strip() or "-"


def size(octets: float) -> str:
    """Write a number of octets for people."""
    if octets < 1024:
        return f"{octets:.0f} octets"
    for unit in ("KiB", "MiB"):
        octets /= 1024
        if octets < 1024:
            return f"{octets:.1f} {unit}"
    return f"{octets / 1024:.1f} GiB"


def counted(number: int, what: str, plural: str = "s") -> str:
    """Write a number of things."""
    return f"{number} {what}{'' if number == 1 else plural}"


def json_text(data: object, *, indent: int | None = None) -> str:
    """Write JSON that every program reads (RFC 8259).

    Numbers that JSON lacks become null, and lone surrogates are escaped as text.
    """
    return json.dumps(_plain(data), indent=indent, allow_nan=False)


def _plain(value: object) -> object:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case str():
            return "".join(escaped(c) if "\ud800" <= c <= "\udfff" else c for c in value)
        case Mapping():
            return {name: _plain(part) for name, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
    return value


def write_json(data: object) -> None:
    """Write a document for programs."""
    click.echo(json_text(data, indent=2))


def write_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Write names with what belongs to each, wrapped between words on a terminal."""
    rows = list(pairs)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        first, *others = _wrapped(printable(text), _terminal_width() - width - 2)
        click.echo(f"{name:{width}}  {first}")
        for line in others:
            click.echo(" " * (width + 2) + line)


def _wrapped(text: str, room: float) -> list[str]:
    if len(text) <= room:
        return [text]
    # A word that is too long, such as a record's name, stays whole: it may be copied.
    return textwrap.wrap(
        text, max(1, int(room)), break_long_words=False, break_on_hyphens=False
    ) or [""]


def write_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write rows in columns; where a terminal is too narrow for them, each row as pairs."""
    rows = list(rows)
    lines = [begin + last for begin, last in columns(head, rows)]
    if max(map(len, lines)) <= _terminal_width():
        click.echo("\n".join(map(str.rstrip, lines)))
        return
    for row in rows:
        write_pairs(zip(map(str.capitalize, head), (cell[:_WIDEST] for cell in row), strict=True))
        click.echo()


def columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Align the columns of a table: for its head and each row, all but the last, and the last."""
    rows = [[printable(cell[:_WIDEST]) for cell in row] for row in rows]
    *widths, _ = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for *cells, last in (head, *rows):
        aligned = (f"{cell:{width}}  " for cell, width in zip(cells, widths, strict=True))
        yield "".join(aligned), last


def wrapped(begin: str, text: str) -> str:
    """Wrap a text where a terminal ends, all its lines below each other.

    :param begin: what stands before the first of them.
    """
    room = max(_NARROWEST, _terminal_width() - len(begin))
    if room > len(text):
        return (begin + text).rstrip()
    lines = textwrap.wrap(text, int(room), break_long_words=False, break_on_hyphens=False)
    return begin + f"\n{' ' * len(begin)}".join(lines)


def _terminal_width() -> float:
    # Who reads another program's lines wants one for each row, however wide.
    if sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return math.inf


def state(sight: Sight) -> str:
    """The state of a record: in progress, completed, released, or unreadable."""
    match sight.record:
        case RunningRecord():
            return "in progress"
        case CompletedSummary():
            return "completed"
        case ReleasedRecord():
            return "released"
    return "unreadable"


def since(sight: Sight) -> float | None:
    """When the run began or answered, seconds since 1970; None where nobody can know."""
    match sight.record:
        case RunningRecord(started=at) | ReleasedRecord(started=at) | CompletedSummary(time=at):
            return at
    return None


def age(sight: Sight) -> float | None:
    """Seconds since the run began or answered; None where nobody can know."""
    at = since(sight)
    return None if at is None else max(0.0, time.time() - at)


def is_older(sight: Sight, seconds: float | None) -> bool:
    """Say whether a record is older; every one is older than None, and one without an age none."""
    return seconds is None or (age(sight) or 0) > seconds


def owner(record: RunningRecord | ReleasedRecord) -> str:
    """Who runs the view, or ran it."""
    return f"{record.host}, process {record.pid}"


def lease(sight: Sight) -> str:
    """How the lease stands."""
    if sight.lease is None:
        return "-"
    left = sight.lease / 1000
    return f"lapsed {span(-left)} ago" if sight.lapsed else f"{span(left)} left"


def life(sight: Sight) -> str:
    """How long a record is still kept."""
    return "ever" if sight.life < 0 else span(sight.life / 1000)


def waiters(sight: Sight) -> str:
    """How many processes wait."""
    return "unknown" if sight.waiters is None else counted(sight.waiters, "process", "es")


def as_dict(sight: Sight) -> dict[str, Any]:
    """A record for programs: times in seconds, null where something does not apply."""
    running = sight.record if isinstance(sight.record, RunningRecord | ReleasedRecord) else None
    answered = sight.record if isinstance(sight.record, CompletedSummary) else None
    return {
        "storage_key": sight.key,
        "state": state(sight),
        "method": sight.record and sight.record.method,
        "endpoint": sight.record and sight.record.endpoint,
        "attempt": sight.record and sight.record.attempt,
        "began": moment(running and running.started),
        "answered": moment(answered and answered.time),
        "age": age(sight),
        "host": running and running.host,
        "pid": running and running.pid,
        "lease_left": None if sight.lease is None else sight.lease / 1000,
        "lapsed": sight.lapsed,
        "waiters": sight.waiters,
        "status": answered and answered.status_code,
        "time_left": None if sight.life < 0 else sight.life / 1000,
        "octets": sight.octets,
    }
