"""The transaction of an application that uses SQLAlchemy."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, delete, func, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, TimeoutError
from sqlalchemy.orm import Session

from flask_idempotent.contrib.sqlalchemy import runs, sessions
from flask_idempotent.contrib.sqlalchemy.dialects import (
    COMMITS_AT_SAVEPOINTS,
    begins_late,
    bounded_lock_wait,
    is_autocommit,
    is_locked,
    is_missing_table,
    prepare_to_read,
    reads_uncommitted,
)
from flask_idempotent.contrib.sqlalchemy.rows import Row, answer_of, values_of
from flask_idempotent.contrib.sqlalchemy.statements import Statements
from flask_idempotent.contrib.sqlalchemy.table import CLOCKS, NowMs, answers_table
from flask_idempotent.engine.transactions import Answer, InspectableTransaction, Weakness
from flask_idempotent.errors import DatabaseUnavailable, SettingsError
from flask_idempotent.sealing import Sealer

#: How many keys are deleted in one statement; SQLite takes 999 parameters at most before 3.32.
_BATCH = 500


class SQLAlchemyTransaction(InspectableTransaction):
    """Commits each answer together with what its view has written with SQLAlchemy.

    ::

        db = SQLAlchemy(app)
        transaction = SQLAlchemyTransaction(db)

        @app.post("/orders")
        @idempotent(transaction=transaction)
        def create_order():
            db.session.add(order := Order())
            db.session.flush()
            return {"order": order.id}, 201

    The view leaves the commit to the library. Answers are in a table that is added to the
    application's metadata; ``db.create_all()`` or a migration creates it. PostgreSQL, MySQL,
    MariaDB and SQLite can be used.

    :param source: Flask-SQLAlchemy's ``db``, or an SQLAlchemy ``scoped_session``.
    :param metadata: the ``MetaData`` that gets the table, such as ``Base.metadata``; the default is
        that of ``db``.
    :param table_name: the table's name.
    :param sealed: whether the responses in the table are sealed with ``IDEMPOTENT_SECRETS``.
    :raises SettingsError: when the source is something else, or the table's name is taken.
    """

    def __init__(
        self,
        source: Any,
        *,
        metadata: MetaData | None = None,
        table_name: str = "idempotent_answers",
        sealed: bool = False,
    ) -> None:
        sessions.check_source(source)
        metadata = metadata if metadata is not None else getattr(source, "metadata", None)
        if not isinstance(metadata, MetaData):
            raise SettingsError(
                "SQLAlchemyTransaction adds a table to the application's metadata: say which with "
                "SQLAlchemyTransaction(scoped_session, metadata=Base.metadata)"
            )
        self._source = source
        self.sealed = sealed
        self._sealer: Sealer | None = None
        #: What ``sealed_with`` has returned.
        self._copies: dict[Sealer, SQLAlchemyTransaction] = {}
        #: The table of answers.
        self.table = answers_table(table_name, metadata)
        self._statements = Statements(self.table)
        self._checked: weakref.WeakSet[Engine] = weakref.WeakSet()
        runs.listen(source)

    def sealed_with(self, sealer: Sealer) -> SQLAlchemyTransaction:
        if sealer not in self._copies:
            sealing = copy.copy(self)
            sealing._sealer = sealer
            self._copies[sealer] = sealing
        return self._copies[sealer]

    def look_up(self, storage_key: str) -> Answer | None:
        session = self._current_session()
        bind = self._bind(session)
        with self._errors():
            connection = sessions.connection_for_reading(session, bind)
            if connection is not None:
                row = self._read(connection, storage_key)
            else:
                row = self._read_apart(session, bind.engine, storage_key)
        if row is None:
            return None
        if row["storage_key"] != storage_key:
            raise DatabaseUnavailable(
                "a look-up got the row of another key, as happens where processes share a "
                "connection: an engine that connects before its process forks must be disposed of, "
                "with engine.dispose()"
            )
        return answer_of(row, self._sealer, must_be_sealed=self.sealed)

    def begin(self) -> None:
        runs.begin_run(self._source, self._current_session())

    def commit(self, answer: Answer | None, *, replaces: bytes | None = None) -> None:
        session = self._current_session()
        if answer is not None:
            self._write(session, answer, replaces)
        # A session with autobegin=False refuses to commit nothing.
        if session.in_transaction():
            session.commit()
        runs.end_run(session)

    def roll_back(self) -> None:
        session = self._current_session()
        runs.end_run(session)
        # Where the connection is broken, the database has rolled back, and the session is clean.
        with suppress(DBAPIError):
            session.rollback()

    def has_committed(self) -> bool:
        return runs.has_committed(self._current_session())

    def delete(self, storage_keys: Iterable[str]) -> int:
        keys, deleted = iter(storage_keys), 0
        while batch := list(islice(keys, _BATCH)):
            with self._own_transaction() as connection:
                deleted += self._delete(connection, batch)
        return deleted

    def delete_all(self, prefix: str, *, keep: Collection[str]) -> int:
        name = self.table.c.storage_key
        # Not with LIKE, which disregards case in SQLite.
        chosen = (func.substr(name, 1, len(prefix)) == prefix, name.not_in(keep))
        with self._own_transaction() as connection:
            return connection.execute(delete(self.table).where(*chosen)).rowcount

    def prune(self, batch: int) -> int:
        columns, deleted = self.table.c, 0
        has_expired = columns.expires <= NowMs()
        with self._own_transaction() as connection:
            expired = select(columns.storage_key).where(has_expired).limit(batch)
            keys = iter(connection.scalars(expired).all())
            while some := list(islice(keys, _BATCH)):
                # A row may have been replaced since it was read.
                deleted += self._delete(connection, some, has_expired)
        return deleted

    @property
    def is_thread_local(self) -> bool:
        return sessions.is_thread_local(self._source)

    def longest_expired(self) -> float | None:
        age_ms = select(NowMs() - func.min(self.table.c.expires))
        with self._own_transaction() as connection:
            milliseconds = connection.scalar(age_ms)
        return milliseconds / 1000 if milliseconds is not None and milliseconds > 0 else None

    def weaknesses(self) -> Iterable[Weakness]:
        with self._own_transaction() as connection:
            return [COMMITS_AT_SAVEPOINTS] if begins_late(connection) else []

    def __repr__(self) -> str:
        return f"{type(self).__name__}(table_name={self.table.name!r})"

    def _current_session(self) -> Session:
        return sessions.current_session(self._source)

    def _bind(self, session: Session) -> Engine | Connection:
        """What the session reads and writes the table of answers with."""
        bind = session.get_bind(clause=self.table)
        if bind.engine not in self._checked:
            if bind.dialect.name not in CLOCKS:
                raise SettingsError(
                    f"SQLAlchemyTransaction does not know the database {bind.dialect.name!r}: it "
                    "knows PostgreSQL, MySQL, MariaDB and SQLite"
                )
            sessions.check_binds(self._source, session)
        return bind

    def _read(self, connection: Connection, storage_key: str) -> Row | None:
        """Read a row, and leave no transaction open that was not open before."""
        was_in_transaction = connection.in_transaction()
        try:
            self._check_connection(connection)
            return self._statements.read(connection, storage_key)
        finally:
            if not was_in_transaction:
                connection.rollback()

    def _read_apart(self, session: Session, engine: Engine, storage_key: str) -> Row | None:
        """Read a row on a connection besides that of the session's transaction."""
        held = next(iter(sessions.held_connections(session)), None)
        if held is not None and sessions.has_one_connection(engine.pool):
            raise SettingsError(
                "the session's transaction has begun before the view, and may not see what others "
                "have committed since. The answer is looked up on a second connection, but the "
                "engine's pool has one only: allow more with pool_size or max_overflow"
            )
        try:
            return self._connect_and_read(engine, held, storage_key)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        # The pool's connections broke while they were idle, and are opened again from here on.
        return self._connect_and_read(engine, held, storage_key)

    def _connect_and_read(
        self, engine: Engine, held: Connection | None, storage_key: str
    ) -> Row | None:
        with engine.connect() as connection:
            if held is not None and engine.dialect.name == "sqlite":
                # BEGIN might wait for the lock that the session's own transaction has.
                self._check_connection(held)
                return self._statements.read_without_begin(connection, storage_key)
            self._check_connection(connection)
            prepare_to_read(connection)
            return self._statements.read(connection, storage_key)

    def _check_connection(self, connection: Connection) -> None:
        if connection.engine in self._checked:
            return
        if is_autocommit(connection):
            raise SettingsError(
                "the engine commits each statement by itself (AUTOCOMMIT), so a view's rows and "
                "its answer cannot be committed together: give SQLAlchemyTransaction an engine "
                "without isolation_level='AUTOCOMMIT'"
            )
        if reads_uncommitted(connection):
            raise SettingsError(
                "the engine's isolation level is READ UNCOMMITTED, so a look-up finds answers that "
                "may never be committed: give SQLAlchemyTransaction an engine with "
                "isolation_level='READ COMMITTED'"
            )
        self._checked.add(connection.engine)

    def _write(self, session: Session, answer: Answer, replaces: bytes | None) -> None:
        """Write the row of an answer, after everything else."""
        if not session.in_transaction():
            session.begin()
        session.flush()
        connection = session.connection(bind_arguments={"clause": self.table})
        sessions.check_connections(session)
        values = values_of(answer, self._sealer if self.sealed else None)
        try:
            with bounded_lock_wait(connection):
                self._statements.write(connection, values, replaces)
        except DBAPIError as error:
            if is_locked(error):
                raise DatabaseUnavailable(
                    f"another transaction keeps {answer.storage_key} locked: {error.orig}"
                ) from error
            raise

    def _delete(self, connection: Connection, keys: list[str], *conditions: Any) -> int:
        chosen = delete(self.table).where(self.table.c.storage_key.in_(keys), *conditions)
        return connection.execute(chosen).rowcount

    @contextmanager
    def _own_transaction(self) -> Iterator[Connection]:
        """A transaction apart from the session's, which waits for locks for a short time."""
        bind = self._bind(self._current_session())
        with self._errors(), bind.engine.begin() as connection, bounded_lock_wait(connection):
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say what an error of SQLAlchemy means here."""
        try:
            yield
        except TimeoutError as error:
            raise DatabaseUnavailable(
                f"no connection to look up an answer: {error}. A request whose session has begun a "
                "transaction before its view may need a second one"
            ) from error
        except DBAPIError as error:
            if is_missing_table(error):
                raise SettingsError(
                    f"the database has no table {self.table.name!r} for answers: create it with "
                    "db.create_all() (plain SQLAlchemy: metadata.create_all(engine)), or with a "
                    "migration, such as flask db migrate && flask db upgrade"
                ) from error
            if isinstance(error, (OperationalError, InterfaceError)):
                raise DatabaseUnavailable(str(error.orig)) from error
            raise
