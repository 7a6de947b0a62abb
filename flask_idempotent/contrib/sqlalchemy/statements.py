"""Reading and writing the row of an answer."""

from __future__ import annotations

import sqlite3

from sqlalchemy import Connection, Table, bindparam, insert, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import OperationalError

from flask_idempotent.contrib.sqlalchemy.rows import Row
from flask_idempotent.contrib.sqlalchemy.table import NowMs


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
        statement = self._sqlite_statement(connection)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(statement, (storage_key,))
            row = cursor.fetchone()
        except sqlite3.Error as error:
            raise OperationalError(statement, (), error) from error
        finally:
            cursor.close()
        names = self._select.selected_columns.keys()
        return None if row is None else dict(zip(names, row, strict=True))

    def _sqlite_statement(self, connection: Connection) -> str:
        schemas = connection.get_execution_options().get("schema_translate_map")
        if not schemas:
            return self._sqlite_select
        # SQLAlchemy puts other schemas into a statement only when it executes it itself.
        dialect = sqlite.dialect()
        dialect.default_schema_name = connection.dialect.default_schema_name
        compiled = self._select.compile(
            dialect=dialect, schema_translate_map=schemas, render_schema_translate=True
        )
        return str(compiled)

    def write(self, connection: Connection, values: Row, replaces: bytes | None) -> None:
        """Write a row, in place of that of another owner where one is to be replaced."""
        if replaces is not None:
            replaced = {"replaced_key": values["storage_key"], "replaced_owner": replaces}
            if connection.execute(self._update, {**values, **replaced}).rowcount:
                return
        # Also where the row to be replaced has been pruned. Any other answer is in the way.
        connection.execute(self._insert, values)
