"""Answers in the SQLite file that the views write to, with the standard library's sqlite3."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from flask_idempotent.engine.transactions import Answer, Transaction
from flask_idempotent.errors import DatabaseUnavailable, SettingsError
from flask_idempotent.record_format import decode, encode
from flask_idempotent.records import CompletedRecord

TABLE = """
CREATE TABLE IF NOT EXISTS idempotent_answers
    (storage_key TEXT PRIMARY KEY, owner BLOB, record BLOB, expires INTEGER)
"""
#: Milliseconds since 1970, by the database's clock.
NOW = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


class SQLiteTransaction(Transaction):
    """The transaction of a connection that was opened with ``isolation_level=None``.

    :param connection: returns the connection of the current request.
    """

    def __init__(self, connection: Callable[[], sqlite3.Connection]) -> None:
        self._connection = connection

    def look_up(self, storage_key: str) -> Answer | None:
        query = f"SELECT record, expires - {NOW} FROM idempotent_answers WHERE storage_key = ?"
        try:
            row = self._connection().execute(query, (storage_key,)).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                raise SettingsError("the table idempotent_answers is missing") from error
            raise DatabaseUnavailable(str(error)) from error
        if row is None:
            return None
        record = decode(row[0])
        assert isinstance(record, CompletedRecord), "no others are written"
        return Answer(storage_key, record, row[1])

    def begin(self) -> None:
        self._connection().execute("BEGIN")

    def commit(self, answer: Answer | None, *, replaces: bytes | None = None) -> None:
        connection = self._connection()
        if answer is not None:
            if not connection.in_transaction:
                connection.execute("BEGIN")
            self._write(connection, answer, replaces)
        connection.commit()

    def _write(
        self, connection: sqlite3.Connection, answer: Answer, replaces: bytes | None
    ) -> None:
        """Write an answer; where the key has one that is not to be replaced, this raises."""
        old = "DELETE FROM idempotent_answers WHERE storage_key = ? AND owner = ?"
        new = f"INSERT INTO idempotent_answers VALUES (?, ?, ?, {NOW} + ?)"
        # A run that the store does not know is attempt 0, which no record is.
        kept = answer.record._replace(attempt=max(1, answer.record.attempt))
        owner, record = kept.owner, encode(kept)
        try:
            connection.execute(old, (answer.storage_key, replaces))
            connection.execute(new, (answer.storage_key, owner, record, answer.ttl_ms))
        except sqlite3.OperationalError as error:
            raise DatabaseUnavailable(str(error)) from error

    def roll_back(self) -> None:
        self._connection().rollback()

    def has_committed(self) -> bool:
        return not self._connection().in_transaction
