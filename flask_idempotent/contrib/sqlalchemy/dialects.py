"""What differs between databases: waiting for a lock, and the errors that matter."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from flask_idempotent.engine.transactions import Weakness

#: How long an answer's row waits for another transaction that is about to write the same key, in
#: milliseconds, and in seconds for MySQL, which counts whole ones.
_LOCK_WAIT_MS = 1500
_LOCK_WAIT_S = 1

#: SQLSTATE of PostgreSQL, error number of MySQL and MariaDB, and result code of SQLite.
_LOCKED = {"55P03", 1205, sqlite3.SQLITE_BUSY}
_NO_TABLE = {"42P01", 1146}


@contextmanager
def bounded_lock_wait(connection: Connection) -> Iterator[None]:
    """Limit how long the statements inside wait for a lock.

    Where the connection breaks meanwhile, there is nothing to restore, and what broke it is raised.
    """
    name = connection.dialect.name
    if name == "postgresql":
        # Until the end of the transaction, so a trigger that is deferred to COMMIT is bounded too.
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_WAIT_MS}")
        yield
    elif name == "sqlite":
        before = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {_LOCK_WAIT_MS}")
        try:
            yield
        finally:
            with suppress(SQLAlchemyError):
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {before}")
    else:
        connection.exec_driver_sql(
            "SET @idempotent_before = @@SESSION.innodb_lock_wait_timeout, "
            f"SESSION innodb_lock_wait_timeout = {_LOCK_WAIT_S}"
        )
        try:
            yield
        finally:
            with suppress(SQLAlchemyError):
                connection.exec_driver_sql(
                    "SET SESSION innodb_lock_wait_timeout = @idempotent_before, "
                    "@idempotent_before = NULL"
                )


def prepare_to_read(connection: Connection) -> None:
    """Let statements that only read wait for nobody, and take no more time than they must.

    PostgreSQL saves two round trips, for BEGIN and ROLLBACK: 130 us of the 1100 that a first
    request spends in the database. At SERIALIZABLE MySQL's SELECT would wait for another owner that
    stopped before its COMMIT, for 50 s by default.
    """
    if connection.dialect.name == "postgresql":
        connection.execution_options(isolation_level="AUTOCOMMIT")
    elif connection.dialect.name != "sqlite" and _isolation_level(connection) == "SERIALIZABLE":
        connection.execution_options(isolation_level="READ COMMITTED")


def _isolation_level(connection: Connection) -> object:
    """A new connection's level, without asking the database."""
    options = connection.get_execution_options()
    return options.get("isolation_level", connection.default_isolation_level)


def is_locked(error: DBAPIError) -> bool:
    """Whether a statement waited for a lock in vain."""
    return not _LOCKED.isdisjoint(_codes_of(error))


def is_missing_table(error: DBAPIError) -> bool:
    """Whether a statement named a table that does not exist."""
    return not _NO_TABLE.isdisjoint(_codes_of(error)) or "no such table" in str(error.orig)


def _codes_of(error: DBAPIError) -> Iterator[object]:
    """The database's own codes of an error, which each driver keeps in another place."""
    for name in ("sqlite_errorcode", "sqlstate", "pgcode", "errno"):
        yield getattr(error.orig, name, None)
    for argument in error.orig.args[:1] if error.orig else ():
        # pg8000 has the fields of the server's message.
        yield argument.get("C") if isinstance(argument, dict) else argument


def is_autocommit(connection: Connection) -> bool:
    """Whether each statement of a transaction that has begun is committed by itself."""
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return True
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("SELECT 1")
        # Without an isolation level sqlite3 begins nothing; SQLAlchemy's recipe for savepoints
        # has begun a transaction by now. With autocommit=True its commit() does nothing either.
        if getattr(driver, "autocommit", None) is True:  # From Python 3.12 on.
            return True
        return driver.isolation_level is None and not driver.in_transaction
    if hasattr(driver, "get_autocommit"):
        return bool(driver.get_autocommit())
    return bool(getattr(driver, "autocommit", False))


def reads_uncommitted(connection: Connection) -> bool:
    """Whether a statement sees what others have written and may roll back."""
    # PostgreSQL has the level's name only.
    if connection.dialect.name == "postgresql":
        return False
    return connection.get_isolation_level() == "READ UNCOMMITTED"


def begins_late(connection: Connection) -> bool:
    """Whether a transaction begins only with the first statement that writes, as sqlite3's do."""
    driver: Any = connection.connection.driver_connection
    return connection.dialect.name == "sqlite" and not driver.in_transaction


COMMITS_AT_SAVEPOINTS = Weakness(
    "SQLite's driver begins a transaction only with the first INSERT, UPDATE or DELETE: a "
    "savepoint (session.begin_nested) before that commits what it has written when it ends.",
    'Let SQLAlchemy begin transactions: the page "Exactly once" shows how, under "Savepoints on '
    'SQLite". Without savepoints nothing needs to be done.',
)
