"""Orders, events and counters, in one SQLite file that every worker of a run shares."""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    product TEXT NOT NULL, quantity INTEGER NOT NULL, key TEXT, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, key TEXT);
COMMIT;
"""
COUNTED = ("received", "placed", "replayed")
KEPT = {"orders": 1000, "events": 200}


@dataclass(frozen=True, slots=True)
class Order:
    """One placed order; *key* is the start of the key it came with, if it came with one."""

    number: int
    product: str
    quantity: int
    key: str | None
    at: float


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the activity page."""

    id: int
    at: float
    kind: str
    text: str
    key: str | None


class Ledger:
    """The shop's orders, events and counters.

    :param find: returns the path of the file. It is called at the first use, and so after a server
        has forked: a process never inherits an open file.
    """

    def __init__(self, find: Callable[[], str | Path]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None

    def place(self, product: str, quantity: int, key: str | None = None) -> Order:
        """Store one order, and the event that reports it."""
        at, key = time.time(), shorten(key)
        with self._write() as db:
            columns = "INSERT INTO orders (product, quantity, key, at) VALUES (?, ?, ?, ?)"
            number = db.execute(columns, (product, quantity, key, at)).lastrowid or 0
            _count(db, "placed")
            text = f"Order no. {number} placed: {quantity} × {product}"
            _add_event(db, "placed", text if key else text + ", without a key", key)
            _trim(db, "orders")
        return Order(number, product, quantity, key, at)

    def note(self, kind: str, text: str, key: str | None = None) -> None:
        """Store one event; the kinds in `COUNTED` increase their counter too."""
        with self._write() as db:
            if kind in COUNTED:
                _count(db, kind)
            _add_event(db, kind, text, shorten(key))
            _trim(db, "events")

    def order(self, number: int) -> Order | None:
        """Return the order with that number, or None."""
        with self._read() as db:
            row = db.execute("SELECT * FROM orders WHERE number = ?", (number,)).fetchone()
        return Order(*row) if row else None

    def counts(self) -> dict[str, int]:
        """Return the three counters, by the kind of event they count."""
        with self._read() as db:
            counts = dict(db.execute("SELECT name, value FROM counts").fetchall())
        return {name: counts.get(name, 0) for name in COUNTED}

    def events(self, most: int = 40) -> list[Event]:
        """Return the last events, newest first."""
        with self._read() as db:
            query = "SELECT id, at, kind, text, key FROM events ORDER BY id DESC LIMIT ?"
            return [Event(*row) for row in db.execute(query, (most,))]

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            yield self._connection()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connection() as db:
            # A transaction that begins with a read can fail with "database is locked" at its first
            # write, however long the timeout; one that begins as a writer waits for the others.
            db.execute("BEGIN IMMEDIATE")
            yield db

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = _open(self._find())
            weakref.finalize(self, self._opened.close)
        return self._opened


def shorten(key: str | None) -> str | None:
    """Return the start of *key*: somebody who reads a whole key can request its replay."""
    return key if key is None or len(key) <= 8 else key[:8] + "…"


def _open(path: str | Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA synchronous = OFF")
    db.executescript(SCHEMA)
    return db


def _count(db: sqlite3.Connection, name: str) -> None:
    db.execute("INSERT OR IGNORE INTO counts VALUES (?, 0)", (name,))
    db.execute("UPDATE counts SET value = value + 1 WHERE name = ?", (name,))


def _add_event(db: sqlite3.Connection, kind: str, text: str, key: str | None) -> None:
    columns = "INSERT INTO events (at, kind, text, key) VALUES (?, ?, ?, ?)"
    db.execute(columns, (time.time(), kind, text, key))


def _trim(db: sqlite3.Connection, table: str) -> None:
    order = {"orders": "number", "events": "id"}[table]
    db.execute(
        f"DELETE FROM {table} WHERE {order} <= (SELECT max({order}) FROM {table}) - ?",
        (KEPT[table],),
    )
