"""Formatting: how commands read and write durations, times, sizes, tables and JSON."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import click

from flask_idempotent._printable import escaped, printable

#: Longest duration that is written exactly, in seconds.
_LONGEST = 1000 * 365.25 * 86400
#: Longest cell of a table, in characters: other programs may write any name to the store.
_WIDEST = 200
#: Least width of a table's last column, in characters, on the narrowest terminal too.
_NARROWEST = 16
_UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> float:
    """Read a duration such as ``30s``, ``5m``, ``2h`` or ``1d``; a bare number is seconds.

    :returns: seconds.
    :raises click.BadParameter: when it is not a duration.
    """
    parts = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|d|)", text)
    if parts is None:
        raise click.BadParameter(f"{text!r} is not a duration. Write it as 30s, 5m, 2h or 1d.")
    return float(parts[1]) * _UNITS[parts[2]]


def duration(seconds: float) -> str:
    """Write a duration for people, rounded."""
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


def timestamp(seconds: float | None) -> str | None:
    """Write a time in UTC in the format of RFC 3339.

    :param seconds: seconds since 1970.
    :returns: None for None, and for a number that is not a time.
    """
    with suppress(OverflowError, ValueError, OSError, TypeError):
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")  # type: ignore[arg-type]
    return None


def size(number: float) -> str:
    """Write a number of bytes for people, rounded."""
    if number < 1024:
        return quantity(round(number), "byte")
    for unit in ("KiB", "MiB"):
        number /= 1024
        if number < 1024:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} GiB"


def quantity(number: int, noun: str, plural: str = "s") -> str:
    """Write a number of things, such as ``1 process`` or ``2 processes``.

    :param plural: the ending of the plural.
    """
    return f"{number} {noun}{'' if number == 1 else plural}"


def json_text(data: object, *, indent: int | None = None) -> str:
    """Write strict JSON (RFC 8259).

    Infinite numbers and NaN become null, and lone surrogates are escaped as text.
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
    """Write a JSON document to the standard output."""
    click.echo(json_text(data, indent=2))


def write_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Write names and their values, one pair a line; on a terminal, long values are wrapped."""
    rows = list(pairs)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        first, *others = _wrap(printable(text), _terminal_width() - width - 2)
        click.echo(f"{name:{width}}  {first}")
        for line in others:
            click.echo(" " * (width + 2) + line)


def _wrap(text: str, width: float) -> list[str]:
    if len(text) <= width:
        return [text]
    # Long words stay whole, so that a storage key can be copied.
    return textwrap.wrap(
        text, max(1, int(width)), break_long_words=False, break_on_hyphens=False
    ) or [""]


def write_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table; on a terminal that is too narrow for it, each row as pairs."""
    rows = list(rows)
    lines = [beginning + last for beginning, last in columns(head, rows)]
    if max(map(len, lines)) <= _terminal_width():
        click.echo("\n".join(map(str.rstrip, lines)))
        return
    for row in rows:
        write_pairs(zip(map(str.capitalize, head), (cell[:_WIDEST] for cell in row), strict=True))
        click.echo()


def columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Align the columns of a table.

    :returns: for the head and for each row, all columns except the last, and the last.
    """
    rows = [[printable(cell[:_WIDEST]) for cell in row] for row in rows]
    *widths, _ = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for *cells, last in (head, *rows):
        aligned = (f"{cell:{width}}  " for cell, width in zip(cells, widths, strict=True))
        yield "".join(aligned), last


def wrapped(beginning: str, text: str) -> str:
    """Wrap a text to the width of the terminal, its lines indented by what precedes the first.

    :param beginning: what precedes the first line.
    """
    lines = _wrap(text, max(_NARROWEST, _terminal_width() - len(beginning)))
    return (beginning + f"\n{' ' * len(beginning)}".join(lines)).rstrip()


def _terminal_width() -> float:
    # A program that reads the output wants a row on one line.
    if sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return math.inf
