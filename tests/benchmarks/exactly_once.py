"""What ``transaction=`` costs, beside the same view that commits its row by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.benchmarks.bench import Bench, Findings, Target
from tests.benchmarks.contestants import (
    DATABASE_URL,
    KINDS,
    OWN_COMMIT,
    TRANSACTION,
    Contestant,
    environ,
    fresh_key,
)
from tests.benchmarks.cost import time_in_turns
from tests.benchmarks.runners import Runner
from tests.benchmarks.series import Series

# SQLAlchemy and the databases' drivers are imported by the functions that need them: every
# contestant's process imports this module.

_LOOK_UP, _ROW = "SELECT of its answer", "INSERT of its answer"
_SETTINGS = "settings of the connection"
_LOST = "replay of a lost record"
#: How many statements about its answer each kind of request may send.
_LIMITS = {"no key": (0, 0), "first": (1, 1), "replay": (0, 0), _LOST: (1, 0)}


@contextmanager
def _sqlite() -> Iterator[str]:
    from tests.support.databases import sqlite_file

    with tempfile.TemporaryDirectory() as folder:
        yield sqlite_file(Path(folder)).url


@contextmanager
def _postgresql() -> Iterator[str]:
    from tests.support.databases import PostgreSQLServer

    server = PostgreSQLServer()
    try:
        server.start()
        yield server.new_database().url
    finally:
        server.stop()


_DATABASES = {"SQLite": _sqlite, "PostgreSQL": _postgresql}


def _measured(
    bench: Bench, title: str, measure_on: Callable[[Bench, str], list[Series]]
) -> Findings:
    """Measure on an empty database of each kind; say of those that are missing why.

    :param measure_on: called with the database's name.
    """
    findings = Findings(title, [])
    for name in bench.size.databases:
        try:
            with _DATABASES[name]() as url, pytest.MonkeyPatch.context() as patch:
                patch.setenv(DATABASE_URL, url)
                findings.series.extend(measure_on(bench, name))
        except pytest.skip.Exception as reason:
            findings.notes.append(f"{name} is not measured: {reason}.")
    return findings


def measure(bench: Bench) -> Findings:
    """Time each kind of request to both views, on each database."""
    return _measured(bench, "Exactly once: a view that writes a row", _times)


def _times(bench: Bench, database: str) -> list[Series]:
    times = time_in_turns(bench.size, partial(bench.runners, OWN_COMMIT, TRANSACTION), KINDS)
    return [
        Series(f"{database}, {kind}: {name}", "µs", values)
        for (kind, name), values in times.items()
    ]


def statements(bench: Bench) -> Findings:
    """Count what each kind of request sends because of its transaction, on each database."""
    findings = _measured(bench, "Exactly once: statements beside the view's own", _counts)
    for database in bench.size.databases:
        for kind, limits in _LIMITS.items():
            for what, limit in zip((_LOOK_UP, _ROW), limits, strict=True):
                name = f"{database}, {kind}: {what}"
                for series in findings.series:
                    if series.name == name:
                        findings.targets.append(Target(name, series.median, limit, ""))
    return findings


def _counts(bench: Bench, database: str) -> list[Series]:
    with bench.runners(TRANSACTION) as made:
        runner, key = made[TRANSACTION], fresh_key()
        counts = {kind: _count(runner, key) for kind in ("first", "replay")}
        bench.server.client.flushall()
        counts |= {_LOST: _count(runner, key), "no key": _count(runner, None)}
    return [
        Series(f"{database}, {kind}: {what}", "", (float(counts[kind].get(what, 0)),))
        for kind in _LIMITS
        for what in (_LOOK_UP, _ROW, _SETTINGS)
    ]


def _count(runner: Runner, key: str | None) -> dict[str, int]:
    return runner.run(_statements, key)


def _statements(contestant: Contestant, key: str | None) -> dict[str, int]:
    """Send one request, and count its statements about its answer."""
    from sqlalchemy import event

    sent = {_LOOK_UP: 0, _ROW: 0, _SETTINGS: 0}

    def note(_: object, __: object, statement: str, *___: object) -> None:
        verb = statement.split(None, 1)[0]
        if verb in ("PRAGMA", "SET"):
            sent[_SETTINGS] += 1
        elif "idempotent_answers" in statement:
            sent[f"{verb} of its answer"] += 1

    engine = contestant.database
    event.listen(engine, "before_cursor_execute", note)
    try:
        contestant.answer(environ(key))
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return sent
