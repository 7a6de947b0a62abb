"""What cannot be committed together with an answer is refused, with what to do about it."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, create_mock_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from flask_idempotent.contrib.sqlalchemy import SQLAlchemyTransaction
from flask_idempotent.errors import SettingsError
from tests.contrib.sqlalchemy.shops import KEY, Base, MakeShop, Order, Shop, answer, on_sqlite
from tests.support.databases import Database


class TestSources:
    """What a session is taken from."""

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            (Session(), "one thread"),
            (sessionmaker(), "not a sessionmaker"),
            (AsyncSession(), "AsyncSession commits in an event loop"),
            (async_scoped_session(async_sessionmaker(), int), "AsyncSession commits"),
            (SimpleNamespace(session=Session()), "one thread"),
            (None, "scoped_session, not a NoneType"),
        ],
    )
    def test_refused(self, source: object, reason: str) -> None:
        """Whatever has no session for each request is refused at once."""
        with pytest.raises(SettingsError, match=reason):
            SQLAlchemyTransaction(source, metadata=MetaData())

    @on_sqlite
    @pytest.mark.filterwarnings("ignore:Using `scoped_session` with asyncio")
    def test_async_sessions(self, database: Database) -> None:
        """A scoped_session whose sessions are for an event loop is refused at its first use."""
        session: Any = scoped_session(AsyncSession)  # type: ignore[type-var]
        transaction = SQLAlchemyTransaction(session, metadata=Base.metadata)
        with pytest.raises(SettingsError, match="AsyncSession commits in an event loop"):
            transaction.look_up(KEY)

    def test_without_metadata(self) -> None:
        """A scoped_session has no metadata to put the table into."""
        with pytest.raises(SettingsError, match=r"metadata=Base\.metadata"):
            SQLAlchemyTransaction(scoped_session(sessionmaker()))

    @on_sqlite
    def test_property(self, database: Database) -> None:
        """``session`` may be a property for the current context: Flask-SQLAlchemy-Lite's is."""

        class Lite:
            engine = create_engine(database.url)
            current: Session | None = None

            @property
            def session(self) -> Session:
                if self.current is None:
                    raise RuntimeError("outside of an application context")
                return self.current

        db = Lite()
        transaction = SQLAlchemyTransaction(db, metadata=Base.metadata)
        Base.metadata.create_all(db.engine)
        with Session(db.engine) as db.current:
            transaction.begin()
            db.current.add(Order(product="mug"))
            transaction.commit(answer())
            assert not transaction.has_committed()
            assert transaction.look_up(KEY) is not None
        db.engine.dispose()


class TestTables:
    """The table in the application's metadata."""

    def test_twice(self) -> None:
        """Two transactions of the same metadata have the same table."""
        metadata, session = MetaData(), scoped_session(sessionmaker())
        first, second = (SQLAlchemyTransaction(session, metadata=metadata) for _ in range(2))
        assert first.table is second.table
        other = SQLAlchemyTransaction(session, metadata=metadata, table_name="answers")
        assert sorted(metadata.tables) == ["answers", "idempotent_answers"]
        assert other.table.name == "answers"

    def test_schema(self) -> None:
        """The table is in the metadata's schema."""
        metadata, session = MetaData(schema="shop"), scoped_session(sessionmaker())
        first, second = (SQLAlchemyTransaction(session, metadata=metadata) for _ in range(2))
        assert first.table is second.table
        assert first.table.fullname == "shop.idempotent_answers"

    def test_name_is_taken(self) -> None:
        """A table of the application's own is not written to."""
        metadata = MetaData()
        Table("idempotent_answers", metadata, Column("owner", Integer))
        with pytest.raises(SettingsError, match=r"without the columns .*storage_key.*table_name="):
            SQLAlchemyTransaction(scoped_session(sessionmaker()), metadata=metadata)


class TestDatabases:
    """Databases and sessions that are refused at their first use."""

    def test_unknown(self) -> None:
        """A database whose clock and locks are not known is refused."""
        engine = create_mock_engine("mssql+pyodbc://", lambda *_: None)
        session = scoped_session(sessionmaker())
        transaction = SQLAlchemyTransaction(session, metadata=MetaData())
        session().bind = engine  # type: ignore[assignment]
        with pytest.raises(SettingsError, match="'mssql': it knows PostgreSQL"):
            transaction.look_up(KEY)

    @on_sqlite
    def test_several_binds(self, make_shop: MakeShop, tmp_path: Path) -> None:
        """A session with binds to several databases is refused."""
        other = create_engine(f"sqlite:///{tmp_path}/other.db")
        shop = make_shop(session_options={"binds": {Order: other}})
        with pytest.raises(SettingsError, match="several databases"):
            shop.transaction.look_up(KEY)

    @on_sqlite
    def test_binds_to_one_database(self, make_shop: MakeShop) -> None:
        """A session with binds that are all the same is not."""
        shop = make_shop()
        factory = shop.session.session_factory
        factory.configure(binds={Order: shop.engine})  # type: ignore[attr-defined]
        assert shop.transaction.look_up(KEY) is None

    def test_flask_sqlalchemy_binds(self, tmp_path: Path) -> None:
        """SQLALCHEMY_BINDS are several databases too; a session of its own for one works."""
        app, db = Flask("shop"), SQLAlchemy()
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/a.db"
        app.config["SQLALCHEMY_BINDS"] = {"reports": f"sqlite:///{tmp_path}/b.db"}
        db.init_app(app)
        with app.app_context():
            with pytest.raises(SettingsError, match="several databases"):
                SQLAlchemyTransaction(db).look_up(KEY)
            session = scoped_session(sessionmaker(db.engine))
            transaction = SQLAlchemyTransaction(session, metadata=db.metadata)
            db.create_all()
            transaction.commit(answer())
            assert transaction.look_up(KEY) is not None
            session.remove()
            for engine in db.engines.values():
                engine.dispose()

    @on_sqlite
    def test_routing_session(self, make_shop: MakeShop, tmp_path: Path) -> None:
        """A session that chooses engines itself is refused when it has written to two."""
        other = create_engine(f"sqlite:///{tmp_path}/other.db")
        Base.metadata.create_all(other)

        class Routing(Session):
            def get_bind(self, mapper: Any = None, **options: Any) -> Any:
                return other if mapper is not None else super().get_bind(**options)

        shop = make_shop(session_options={"class_": Routing})
        shop.transaction.begin()
        shop.write("mug")
        with pytest.raises(SettingsError, match="several databases"):
            shop.transaction.commit(answer())
        shop.transaction.roll_back()
        assert shop.count_answers() == 0
        other.dispose()

    def test_autocommit(self, make_shop: MakeShop) -> None:
        """An engine that commits each statement is refused before the view runs."""
        shop = make_shop(isolation_level="AUTOCOMMIT")
        with pytest.raises(SettingsError, match="AUTOCOMMIT"):
            shop.transaction.look_up(KEY)

    @pytest.mark.parametrize("database", ["sqlite", "mariadb"], indirect=True)
    def test_read_uncommitted(self, make_shop: MakeShop) -> None:
        """An engine that would look up what others may roll back is refused."""
        shop = make_shop(isolation_level="READ UNCOMMITTED")
        with pytest.raises(SettingsError, match="isolation_level='READ COMMITTED'"):
            shop.transaction.look_up(KEY)

    @pytest.mark.parametrize(
        ("database", "arguments"),
        [
            ("sqlite", {"isolation_level": None}),
            pytest.param(
                "sqlite",
                {"autocommit": True},
                marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="is of Python 3.12"),
            ),
            ("postgresql", {"autocommit": True}),
            ("mariadb", {"autocommit": True}),
        ],
        indirect=["database"],
    )
    def test_autocommit_of_the_driver(
        self, make_shop: MakeShop, arguments: dict[str, object]
    ) -> None:
        """So is one whose driver does."""
        shop = make_shop(connect_args=arguments)
        with pytest.raises(SettingsError, match="AUTOCOMMIT"):
            shop.transaction.look_up(KEY)


@on_sqlite
class TestThreads:
    """A session that is another one in the thread where an async view runs."""

    def run_view(self, shop: Shop, background: Callable[..., Future[None]]) -> Future[None]:
        """As Flask runs an async view: in another thread, with a copy of the context."""
        shop.transaction.look_up(KEY)
        shop.transaction.begin()

        def view() -> None:
            shop.session.add(Order(product="mug"))

        return background(contextvars.copy_context().run, view)

    def test_thread_local(self, shop: Shop, background: Callable[..., Future[None]]) -> None:
        """The view would write into another session, which nobody commits."""
        view = self.run_view(shop, background)
        with pytest.raises(SettingsError, match="scopefunc"):
            view.result(5)
        shop.transaction.roll_back()

    def test_factory_is_a_function(
        self, shop: Shop, background: Callable[..., Future[None]]
    ) -> None:
        """So it is where nobody knows which sessions a factory makes."""
        shop.session = scoped_session(lambda: Session(shop.engine))
        shop.transaction = SQLAlchemyTransaction(shop.session, metadata=Base.metadata)
        with pytest.raises(SettingsError, match="scopefunc"):
            self.run_view(shop, background).result(5)
        shop.transaction.roll_back()

    def test_same_session(self, shop: Shop, background: Callable[..., Future[None]]) -> None:
        """A scope that is the same in both threads works."""
        factory = shop.session.session_factory
        engine = create_engine(shop.database.url, connect_args={"check_same_thread": False})
        factory.configure(bind=engine)  # type: ignore[attr-defined]
        shop.session = scoped_session(factory, scopefunc=lambda: 1)
        shop.transaction = SQLAlchemyTransaction(shop.session, metadata=Base.metadata)
        self.run_view(shop, background).result(5)
        shop.transaction.commit(answer())
        assert shop.products() == ["mug"]
        engine.dispose()

    def test_own_session_of_a_thread(
        self, shop: Shop, background: Callable[..., Future[None]]
    ) -> None:
        """A session that the view makes for another thread is its own affair."""
        shop.transaction.begin()

        def log() -> None:
            with Session(shop.engine) as session, session.begin():
                session.add(Order(product="log"))

        background(contextvars.copy_context().run, log).result(5)
        assert not shop.transaction.has_committed()
        shop.transaction.roll_back()
        assert shop.products() == ["log"]

    def test_another_scope_in_the_same_thread(self, shop: Shop) -> None:
        """A view that pushes an application context of its own has another session there."""
        scope = 1
        shop.session = scoped_session(shop.session.session_factory, scopefunc=lambda: scope)
        shop.transaction = SQLAlchemyTransaction(shop.session, metadata=Base.metadata)
        shop.transaction.begin()
        scope = 2
        shop.session.add(Order(product="log"))
        shop.session.commit()
        shop.session.remove()
        scope = 1
        assert not shop.transaction.has_committed()
        shop.transaction.roll_back()
        assert shop.products() == ["log"]

    def test_after_the_run(self, shop: Shop, background: Callable[..., Future[None]]) -> None:
        """A thread that goes on after the request may use the scoped_session."""
        shop.transaction.begin()
        context = contextvars.copy_context()
        shop.transaction.roll_back()

        def work() -> None:
            shop.session.add(Order(product="log"))
            shop.session.commit()
            shop.session.remove()

        background(context.run, work).result(5)
        assert shop.products() == ["log"]
