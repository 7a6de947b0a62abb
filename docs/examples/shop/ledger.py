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
    """The shop's books.

    :param find: says where the file is. It is asked at the first use, so never before a server
        forks: neither the file nor what `find` holds is inherited.
    """

    def __init__(self, find: Callable[[], str | Path]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None

    def place(self, product: str, quantity: int, key: str | None = None) -> Order:
        """Write one order into the books, and the event that tells of it."""
        at, key = time.time(), shorten(key)
        with self._write() as db:
            columns = "INSERT INTO orders (product, quantity, key, at) VALUES (?, ?, ?, ?)"
            number = db.execute(columns, (product, quantity, key, at)).lastrowid or 0
            _count(db, "placed")
            told = f"Order no. {number} placed: {quantity} × {product}"
            _tell(db, "placed", told if key else told + ", without a key", key)
            _trim(db, "orders")
        return Order(number, product, quantity, key, at)

    def note(self, kind: str, text: str, key: str | None = None) -> None:
        """Write one event; the kinds in `COUNTED` move their counter too."""
        with self._write() as db:
            if kind in COUNTED:
                _count(db, kind)
            _tell(db, kind, text, shorten(key))
            _trim(db, "events")

    def order(self, number: int) -> Order | None:
        """Return the order of that number."""
        with self._read() as db:
            row = db.execute("SELECT * FROM orders WHERE number = ?", (number,)).fetchone()
        return Order(*row) if row else None

    def counts(self) -> dict[str, int]:
        """Return the three counters, by the kind of event they count."""
        with self._read() as db:
            found = dict(db.execute("SELECT name, value FROM counts").fetchall())
        return {name: found.get(name, 0) for name in COUNTED}

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
            # A transaction that begins as a reader can fail with "database is locked" when it
            # turns writer, however long the timeout; one that begins as a writer waits its turn.
            db.execute("BEGIN IMMEDIATE")
            yield db

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = _open(self._find())
            weakref.finalize(self, self._opened.close)
        return self._opened


def shorten(key: str | None) -> str | None:
    """Return enough of *key* to tell it from others: a whole one lets its reader replay it."""
    return key if key is None or len(key) <= 8 else key[:8] + "…"


def _open(path: str | Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA synchronous = OFF")
    db.executescript(SCHEMA)
    return db


def _count(db: sqlite3.Connection, name: str) -> None:
    db.execute("INSERT OR IGNORE INTO counts VALUES (?, 0)", (name,))
    db.execute("UPDATE counts SET value = value + 1 WHERE name = ?", (name,))


def _tell(db: sqlite3.Connection, kind: str, text: str, key: str | None) -> None:
    columns = "INSERT INTO events (at, kind, text, key) VALUES (?, ?, ?, ?)"
    db.execute(columns, (time.time(), kind, text, key))


def _trim(db: sqlite3.Connection, table: str) -> None:
    order = {"orders": "number", "events": "id"}[table]
    db.execute(
        f"DELETE FROM {table} WHERE {order} <= (SELECT max({order}) FROM {table}) - ?",
        (KEPT[table],),
    )
