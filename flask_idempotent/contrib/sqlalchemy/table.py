"""The table of answers, and the database's clock."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from flask_idempotent.errors import SettingsError

_MYSQL = ("mysql", "mariadb")
#: The table's options for them, whose defaults differ between installations.
_TABLE_OPTIONS: dict[str, Any] = {
    f"{name}_{option}": value
    for name in _MYSQL
    for option, value in {"engine": "InnoDB", "charset": "utf8mb4"}.items()
}


class NowMs(FunctionElement[int]):
    """The database's own clock when the statement runs, in milliseconds since 1970.

    Not that of the transaction's start: a view that runs for longer than its answer is kept would
    write an answer that has expired.
    """

    type = BigInteger()
    inherit_cache = True


#: What each dialect calls it, by SQLAlchemy's name for the dialect.
CLOCKS = {
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    # Not UNIX_TIMESTAMP(): it reads a local time, which is ambiguous when summer time ends.
    **dict.fromkeys(
        _MYSQL, "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000)"
    ),
}


@compiles(NowMs)
def _compile_clock(element: NowMs, compiler: Any, **_: Any) -> str:
    dialect: Dialect = compiler.dialect
    return CLOCKS[dialect.name]


def answers_table(name: str, metadata: MetaData) -> Table:
    """Add the table of answers to an application's metadata, unless it is there already.

    :raises SettingsError: when the metadata has another table of this name.
    """
    key = f"{metadata.schema}.{name}" if metadata.schema else name
    table: Table | None = metadata.tables.get(key)
    if table is None:
        return Table(name, metadata, *_columns(), **_TABLE_OPTIONS)
    missing = {column.name for column in _columns()} - set(table.columns.keys())
    if missing:
        raise SettingsError(
            f"the application has a table {name!r} of its own, without the columns "
            f"{', '.join(sorted(missing))}: choose another name for the table of answers, such as "
            "SQLAlchemyTransaction(db, table_name='idempotent_answers_2')"
        )
    return table


def _columns() -> list[Column[Any]]:
    # MySQL compares names without regard to case, unless a binary collation is asked for.
    name = String(255).with_variant(mysql.VARCHAR(255, collation="utf8mb4_bin"), *_MYSQL)
    # Its BLOB and TEXT end at 64 KiB.
    binary = LargeBinary().with_variant(mysql.LONGBLOB(), *_MYSQL)
    text = Text().with_variant(mysql.LONGTEXT(), *_MYSQL)
    return [
        Column("storage_key", name, primary_key=True),
        Column("fingerprint", LargeBinary, nullable=False),
        Column("owner", LargeBinary, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("status", String(255), nullable=False),
        # Names and values, as JSON.
        Column("headers", text, nullable=False),
        # NULL for a response that is not kept.
        Column("body", binary),
        # What a replay repeats of the session; NULL for nothing.
        Column("session", binary),
        Column("method", Text, nullable=False),
        Column("endpoint", Text, nullable=False),
        Column("operation", LargeBinary, nullable=False),
        # Milliseconds since 1970.
        Column("created", BigInteger, nullable=False),
        Column("expires", BigInteger, nullable=False, index=True),
    ]
