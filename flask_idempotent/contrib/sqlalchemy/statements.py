"""Reading and writing the row of an answer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, bindparam, insert, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import OperationalError

from flask_idempotent._http_syntax import check_response
from flask_idempotent.contrib.sqlalchemy.table import NowMs
from flask_idempotent.engine.transactions import Answer
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.records import CompletedRecord, CompressedBody

#: The columns of a row by their names, and ``ttl_ms``.
Row = Mapping[str, Any]


class Statements:
    """The statements of each request, which SQLAlchemy builds once.

    :param table: the table of answers.
    """

    def __init__(self, table: Table) -> None:
        columns, times = table.c, {"created": NowMs(), "expires": NowMs() + bindparam("ttl_ms")}
        self._select = select(*columns, (columns.expires - NowMs()).label("ttl_ms")).where(
            columns.storage_key == bindparam("key")
        )
        self._sqlite_select = str(self._select.compile(dialect=sqlite.dialect()))
        self._insert = insert(table).values(times)
        self._update = (
            update(table)
            .values(times)
            .where(
                columns.storage_key == bindparam("replaced_key"),
                columns.owner == bindparam("replaced_owner"),
            )
        )

    def read(self, connection: Connection, storage_key: str) -> Row | None:
        """Read a row in the transaction of a connection."""
        row = connection.execute(self._select, {"key": storage_key}).mappings().first()
        return None if row is None else dict(row)

    def read_without_begin(self, connection: Connection, storage_key: str) -> Row | None:
        """Read a row from SQLite without the BEGIN that SQLAlchemy's events may add.

        A BEGIN IMMEDIATE waits for another transaction's lock.

        :param connection: a connection that has begun nothing.
        """
        cursor = connection.connection.cursor()
        try:
            cursor.execute(self._sqlite_select, (storage_key,))
            row = cursor.fetchone()
        except sqlite3.Error as error:
            raise OperationalError(self._sqlite_select, (), error) from error
        finally:
            cursor.close()
        names = self._select.selected_columns.keys()
        return None if row is None else dict(zip(names, row, strict=True))

    def write(self, connection: Connection, answer: Answer, replaces: bytes | None) -> None:
        """Write a row, in place of that of another owner where one is to be replaced."""
        values = _values_of(answer)
        if replaces is not None:
            replaced = {"replaced_key": answer.storage_key, "replaced_owner": replaces}
            if connection.execute(self._update, values | replaced).rowcount:
                return
        # Also where the row to be replaced has been pruned. Any other answer is in the way.
        connection.execute(self._insert, values)


def _values_of(answer: Answer) -> dict[str, Any]:
    """The values of an answer's row, except its times, which are the database's."""
    record, body = answer.record, answer.record.body
    if isinstance(body, CompressedBody):
        body = body.expand(body.size)
    return {
        "storage_key": answer.storage_key,
        "fingerprint": record.fingerprint,
        "owner": record.owner,
        "attempt": record.attempt,
        "status": str(record.status),
        "headers": json.dumps(record.headers, separators=(",", ":")),
        "body": body,
        "session": record.session or None,
        "method": record.method,
        "endpoint": record.endpoint,
        "operation": record.operation,
        "ttl_ms": answer.ttl_ms,
    }


def answer_of(row: Row) -> Answer:
    """The answer of a row.

    :param row: the table's columns, and ``ttl_ms``.
    :raises RecordUnreadable: when its response cannot be sent.
    """
    try:
        record = _record_of(row)
        check_response(record.status, record.headers)
    except (TypeError, ValueError) as error:
        raise RecordUnreadable(f"the row of {row['storage_key']} is damaged: {error}") from error
    return Answer(row["storage_key"], record, row["ttl_ms"])


def _record_of(row: Row) -> CompletedRecord:
    status = row["status"]
    return CompletedRecord(
        bytes(row["owner"]),
        bytes(row["fingerprint"]),
        row["attempt"],
        int(status) if status.isdecimal() else status,
        tuple((name, value) for name, value in json.loads(row["headers"])),
        None if row["body"] is None else bytes(row["body"]),
        row["created"] / 1000,
        method=row["method"],
        endpoint=row["endpoint"],
        operation=bytes(row["operation"]),
        session=bytes(row["session"] or b""),
    )
