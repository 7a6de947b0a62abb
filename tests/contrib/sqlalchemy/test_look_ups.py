"""Looking an answer up: it sees what others have committed, and leaves no trace in the session."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine, event, text
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import AssertionPool, StaticPool

from flask_idempotent.contrib.sqlalchemy import SQLAlchemyTransaction
from flask_idempotent.errors import DatabaseUnavailable, SettingsError
from tests.contrib.sqlalchemy.shops import (
    KEY,
    OURS,
    Base,
    MakeShop,
    Order,
    Shop,
    answer,
    begin_for_real,
    on_postgresql,
    on_servers,
    on_sqlite,
    owner_of,
)
from tests.support.databases import Database

OTHER = "IDEMPOTENT_{b}"


class TestSession:
    """What the look-up leaves of the session's transaction."""

    def test_none_is_left_open(self, shop: Shop) -> None:
        """Where no transaction is open, none is afterwards, and no connection is in use."""
        shop.transaction.look_up(KEY)
        assert not shop.session().in_transaction()
        assert shop.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        with shop.session.begin():
            shop.session.add(Order(product="mug"))
        assert shop.products() == ["mug"]

    @on_servers
    def test_isolation_level_of_the_view(self, shop: Shop) -> None:
        """A view may set the isolation level of its transaction, as without us."""
        shop.transaction.look_up(KEY)
        options = {"isolation_level": "SERIALIZABLE"}
        connection = shop.session.connection(execution_options=options)
        assert connection.get_isolation_level() == "SERIALIZABLE"
        shop.write("mug")
        shop.transaction.commit(answer())
        assert shop.products() == ["mug"]

    def test_open_transaction_goes_on(self, shop: Shop) -> None:
        """What was written before the view, and not committed, is committed with its answer."""
        shop.write("mug")
        assert owner_of(shop) is None
        assert shop.session().in_transaction()
        shop.write("teapot")
        shop.transaction.commit(answer())
        assert shop.products() == ["mug", "teapot"]

    @on_sqlite
    def test_pending_objects(self, shop: Shop) -> None:
        """The look-up flushes nothing, and opens no transaction in the database."""
        shop.session.add(Order(product="mug"))
        shop.transaction.look_up(KEY)
        assert len(shop.session.new) == 1
        assert shop.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


class TestSnapshot:
    """A user loader has read before the view, and another request has committed since."""

    @pytest.fixture
    def options(self, database: Database) -> dict[str, object]:
        """MariaDB's level is REPEATABLE READ by default."""
        return {"isolation_level": "REPEATABLE READ"} if database.kind == "postgresql" else {}

    def test_seen(self, make_shop: MakeShop, options: dict[str, object]) -> None:
        """The answer is looked up apart from the transaction, whose snapshot is older."""
        shop = make_shop(**options)
        if shop.database.kind == "sqlite":
            begin_for_real(shop)
        shop.session.query(Order).all()
        shop.another().transaction.commit(answer())
        assert owner_of(shop) == OURS
        shop.session.rollback()

    @on_sqlite
    def test_begin_immediate(self, make_shop: MakeShop) -> None:
        """The look-up does not wait for the lock that the session's transaction has."""
        shop = make_shop(connect_args={"timeout": 60})
        begin_for_real(shop, "BEGIN IMMEDIATE")
        shop.session.query(Order).all()
        assert owner_of(shop) is None
        shop.transaction.commit(answer())
        assert owner_of(shop) == OURS

    @on_sqlite
    def test_translated_schema(self, database: Database) -> None:
        """It looks into the schema that the engine puts in the place of the metadata's."""
        schemas = {"schema_translate_map": {"shop": None}}
        engine = create_engine(database.url, execution_options=schemas)
        metadata = MetaData(schema="shop")
        session = scoped_session(sessionmaker(engine))
        transaction = SQLAlchemyTransaction(session, metadata=metadata)
        metadata.create_all(engine)
        transaction.commit(answer())
        session.execute(text("SELECT 1"))
        assert transaction.look_up(KEY) is not None
        session.remove()
        engine.dispose()

    @pytest.mark.parametrize("database", ["mariadb"], indirect=True)
    def test_pool_of_one(self, make_shop: MakeShop, options: dict[str, object]) -> None:
        """Where the pool has one connection, that is an error at once, not after its timeout."""
        shop = make_shop(**options, pool_size=1, max_overflow=0)
        assert owner_of(shop) is None
        shop.session.query(Order).all()
        with pytest.raises(SettingsError, match="pool_size"):
            shop.transaction.look_up(KEY)

    @pytest.mark.parametrize("database", ["mariadb"], indirect=True)
    def test_exhausted_pool(self, make_shop: MakeShop) -> None:
        """Where all connections are in use, the database is unavailable."""
        shop = make_shop(pool_size=2, max_overflow=0, pool_timeout=0.01)
        shop.session.query(Order).all()
        with (
            shop.engine.connect(),
            pytest.raises(DatabaseUnavailable, match="no connection to look up"),
        ):
            shop.transaction.look_up(KEY)

    @pytest.mark.parametrize("database", ["mariadb"], indirect=True)
    def test_read_uncommitted(self, shop: Shop) -> None:
        """A transaction that sees what others have not committed is not asked either."""
        assert owner_of(shop) is None
        shop.session.connection(execution_options={"isolation_level": "READ UNCOMMITTED"})
        other, seen = shop.another(), []
        event.listen(other.engine, "commit", lambda connection: seen.append(owner_of(shop)))
        other.transaction.commit(answer())
        assert seen == [None]

    @pytest.mark.parametrize("database", ["mariadb"], indirect=True)
    def test_serializable(self, make_shop: MakeShop) -> None:
        """A look-up does not wait for another owner that has not committed yet."""
        impatient = {"init_command": "SET innodb_lock_wait_timeout = 1"}
        shop = make_shop(isolation_level="SERIALIZABLE", connect_args=impatient)
        other, seen = shop.another(), []
        event.listen(other.engine, "commit", lambda connection: seen.append(owner_of(shop)))
        other.transaction.commit(answer())
        assert seen == [None]
        assert owner_of(shop) == OURS

    @on_postgresql
    def test_read_committed(self, make_shop: MakeShop) -> None:
        """Below it the transaction's own connection does, and one is enough."""
        shop = make_shop(pool_size=1, max_overflow=0)
        shop.session.query(Order).all()
        shop.another().transaction.commit(answer())
        assert owner_of(shop) == OURS


class TestOneConnection:
    """Sessions that share one connection, as in unit tests."""

    @pytest.mark.parametrize("options", [{}, {"poolclass": StaticPool}])
    def test_in_memory(self, options: dict[str, object]) -> None:
        """A database in memory works, and what was written before the view stays."""
        shop = Shop(Database("sqlite", "sqlite://"), **options).create_tables()
        shop.write("mug")
        assert owner_of(shop) is None
        shop.transaction.begin()
        shop.write("teapot")
        shop.transaction.commit(answer())
        assert owner_of(shop) == OURS
        assert shop.products() == ["mug", "teapot"]
        shop.close()

    def test_outer_transaction(self, shop: Shop) -> None:
        """A test that rolls everything back gives the session a connection; it sees the answer."""
        if shop.database.kind == "sqlite":
            begin_for_real(shop)
        with shop.engine.connect() as connection:
            connection.begin()
            factory = sessionmaker(connection, join_transaction_mode="create_savepoint")
            transaction = SQLAlchemyTransaction(scoped_session(factory), metadata=Base.metadata)
            assert transaction.look_up(KEY) is None
            transaction.commit(answer())
            stored = transaction.look_up(KEY)
            assert stored is not None
            connection.rollback()
            assert transaction.look_up(KEY) is None
            assert not connection.in_transaction()
            assert not connection.get_execution_options()
        assert owner_of(shop) is None

    @on_sqlite
    def test_assertion_pool(self, make_shop: MakeShop) -> None:
        """A pool that forbids a second connection gets the error that names the remedy."""
        shop = make_shop(poolclass=AssertionPool)
        shop.session.query(Order).all()
        with pytest.raises(SettingsError, match="pool_size"):
            shop.transaction.look_up(KEY)
        shop.session.rollback()


@on_sqlite
def test_row_of_another_key(shop: Shop) -> None:
    """A row of another key, as from a connection that processes share, is never an answer."""
    shop.transaction.commit(answer())

    @event.listens_for(shop.engine, "before_cursor_execute", retval=True)
    def cross(
        connection: object, cursor: object, statement: str, parameters: tuple[Any, ...], *_: object
    ) -> tuple[str, tuple[Any, ...]]:
        return statement, tuple(KEY if value == OTHER else value for value in parameters)

    with pytest.raises(DatabaseUnavailable, match="share a connection"):
        shop.transaction.look_up(OTHER)
