"""SQLAlchemy's sessions and pools, with all that is private or depends on its version."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, Pool
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.pool import AssertionPool, QueuePool, SingletonThreadPool, StaticPool
from sqlalchemy.util import ThreadLocalRegistry

from flask_idempotent.errors import SettingsError

#: What a session is taken from: an object with ``session``, or a ``scoped_session``.
Source = Any


def current_session(source: Source) -> Session:
    """The session of the current request.

    :raises SettingsError: when it is not a session that can be used.
    """
    session = source if isinstance(source, scoped_session) else source.session
    if isinstance(session, scoped_session):
        session = session()
    if not isinstance(session, Session):
        raise SettingsError(
            f"SQLAlchemyTransaction needs an SQLAlchemy Session, not a {type(session).__name__}"
            f"{_hint(session)}"
        )
    return session


def is_thread_local(source: Source) -> bool:
    """Whether each thread has a session of its own."""
    return isinstance(getattr(fixed_session(source), "registry", None), ThreadLocalRegistry)


def scope_of(source: Source) -> object:
    """What a ``scoped_session`` has one session for, before and after its ``remove()``.

    :returns: None where a property returns each request's session.
    """
    session = fixed_session(source)
    if session is None:
        return None
    return threading.get_ident() if is_thread_local(source) else session.registry.scopefunc()


def check_source(source: Source) -> None:
    """Check what a session is to be taken from.

    :raises SettingsError: when it is neither a ``scoped_session`` nor has one.
    """
    session = fixed_session(source)
    # A property is that of Flask-SQLAlchemy-Lite, which works only inside an application context.
    if isinstance(session, scoped_session) or (
        session is None and hasattr(type(source), "session")
    ):
        return
    refused = source if session is None else session
    raise SettingsError(
        "SQLAlchemyTransaction takes Flask-SQLAlchemy's db or a scoped_session, not a "
        f"{type(refused).__name__}{_hint(refused)}"
    )


def fixed_session(source: Source) -> Any:
    """The ``scoped_session`` of a source; None where a property returns each request's session."""
    if isinstance(source, scoped_session):
        return source
    return getattr(source, "__dict__", {}).get("session")


def _hint(source: object) -> str:
    if isinstance(source, Session):
        return ": a Session serves one thread only"
    return _ASYNC if type(source).__module__.startswith("sqlalchemy.ext.asyncio") else ""


def check_binds(source: Source, session: Session) -> None:
    """Check that a session writes to one database only.

    :raises SettingsError: when it may write to several: they cannot be committed together.
    """
    # SQLAlchemy 2.0 has them under a private name.
    binds = getattr(session, "binds", None) or getattr(session, "_Session__binds", {})
    engines = {bind.engine for bind in (session.bind, *binds.values()) if bind is not None}
    if not isinstance(source, scoped_session):
        by_key = getattr(source, "engines", None)
        engines.update(by_key.values() if isinstance(by_key, Mapping) else ())
    if len(engines) > 1:
        raise SettingsError(_SEVERAL_BINDS)


def check_connections(session: Session) -> None:
    """Check that a session's transaction has written to one database only.

    :raises SettingsError: when it has connections to several.
    """
    if len({connection.engine for connection in held_connections(session)}) > 1:
        raise SettingsError(_SEVERAL_BINDS)


def held_connections(session: Session) -> set[Connection]:
    """The connections that a session's transaction has already."""
    transaction = session.get_transaction()
    if transaction is None:
        return set()
    if hasattr(transaction, "connections"):
        return set(transaction.connections)
    # Before SQLAlchemy 2.1.7.
    return {connection for connection, *_ in transaction._connections.values()}


def shares_connection(pool: Pool) -> bool:
    """Whether a second connection would be the one that a session has: SQLite's in memory."""
    return isinstance(pool, (StaticPool, SingletonThreadPool))


def has_one_connection(pool: Pool) -> bool:
    """Whether a second connection would wait for the one that a session has."""
    if isinstance(pool, QueuePool):
        return bool(pool.size() == 1 and pool._max_overflow == 0)
    return isinstance(pool, AssertionPool)


def connection_for_reading(session: Session, bind: Engine | Connection) -> Connection | None:
    """The session's own connection, where it sees just what others have committed until now."""
    if isinstance(bind, Connection):
        return bind
    connection = next(iter(held_connections(session)), None)
    if connection is None or shares_connection(bind.pool):
        return connection
    try:
        level = connection.get_isolation_level()
    except (DBAPIError, PendingRollbackError):
        # It is broken, or its transaction has failed.
        return None
    return connection if level == "READ COMMITTED" else None


_ASYNC = (
    ": an AsyncSession commits in an event loop, and Flask waits outside of it. Use a Session in "
    "these views, which may be async too"
)
_SEVERAL_BINDS = (
    "the session writes to several databases (binds), which cannot be committed together with an "
    "answer: give SQLAlchemyTransaction a scoped_session of its own for the one that has the table"
)
