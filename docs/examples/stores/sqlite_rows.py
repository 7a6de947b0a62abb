"""The rows of an SQLite file in which a store keeps its records."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.record_format import decode, encode
from flask_idempotent.records import CompletedRecord, Record, ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import Step

TABLES = """
CREATE TABLE IF NOT EXISTS records
    (storage_key TEXT PRIMARY KEY, record BLOB, offer BLOB, ends INTEGER);
CREATE TABLE IF NOT EXISTS steps
    (storage_key TEXT, name TEXT, owner BLOB, time REAL, value BLOB);
CREATE INDEX IF NOT EXISTS steps_of_a_record ON steps (storage_key);
"""


@dataclass
class Row:
    """What a key has: its record, a late owner's response, its steps, and when all are gone."""

    record: Record | None = None
    offer: CompletedRecord | None = None
    ends: int = 0
    steps: dict[str, Step] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether a step began that is not known to have ended."""
        return any(step.value is None for step in self.steps.values())

    @property
    def claim(self) -> RunningRecord:
        """The record as a claim, also where it was released."""
        assert not isinstance(self.record, CompletedRecord | None)
        return self.record.as_claim() if isinstance(self.record, ReleasedRecord) else self.record

    def belongs_to(self, owner: bytes) -> bool:
        """Whether this owner has the key, and has not decided to hold it."""
        record = self.record
        return isinstance(record, RunningRecord) and record.owner == owner and not record.held

    def drop_open_steps(self) -> None:
        self.steps = {step.name: step for step in self.steps.values() if step.value is not None}

    def drop_open_step(self, name: str, owner: bytes) -> None:
        step = self.steps.get(name)
        if step is not None and step.value is None and step.owner == owner:
            del self.steps[name]


def now() -> int:
    return int(time.time() * 1000)


class Rows:
    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def row(self, storage_key: str) -> Iterator[Row]:
        """Give a key's row to change, in a transaction that no other process can come between."""
        try:
            with closing(sqlite3.connect(self._path, timeout=1, isolation_level=None)) as database:
                database.executescript(TABLES)
                database.execute("BEGIN IMMEDIATE")
                row = self._select(database, storage_key)
                before = replace(row, steps=dict(row.steps))
                yield row
                if row != before:
                    self._replace(database, storage_key, row)
                database.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreUnavailable(f"SQLite: {error}") from error

    def _select(self, database: sqlite3.Connection, storage_key: str) -> Row:
        query = "SELECT record, offer, ends FROM records WHERE storage_key = ? AND ends > ?"
        columns = database.execute(query, (storage_key, now())).fetchone()
        if columns is None:
            return Row()
        record, offer, ends = columns
        response = decode(offer) if offer else None
        assert not isinstance(response, RunningRecord | ReleasedRecord)
        query = "SELECT name, owner, time, value FROM steps WHERE storage_key = ?"
        steps = [Step(*columns) for columns in database.execute(query, (storage_key,))]
        return Row(decode(record), response, ends, {s.name: s for s in steps})

    def _replace(self, database: sqlite3.Connection, storage_key: str, row: Row) -> None:
        for table in ("records", "steps"):
            database.execute(f"DELETE FROM {table} WHERE storage_key = ?", (storage_key,))
        if row.record is not None:
            columns = (storage_key, encode(row.record), row.offer and encode(row.offer), row.ends)
            database.execute("INSERT INTO records VALUES (?, ?, ?, ?)", columns)
            steps = [(storage_key, *step) for step in row.steps.values()]
            database.executemany("INSERT INTO steps VALUES (?, ?, ?, ?, ?)", steps)
