"""A shop's models and sessions, for the tests of ``SQLAlchemyTransaction``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, String, create_engine, event, func, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from flask_idempotent.contrib.sqlalchemy import SQLAlchemyTransaction
from flask_idempotent.engine.transactions import Answer
from flask_idempotent.records import CompletedRecord
from tests.support.databases import Database

KEY = "IDEMPOTENT_{a}"
OURS, THEIRS = b"o" * 16, b"t" * 16

on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
on_servers = pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)


class Base(DeclarativeBase):
    """The models' base."""


class Order(Base):
    """An order; a product is sold once."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    product: Mapped[str] = mapped_column(String(50), unique=True)


class Shop:
    """An engine, a plain ``scoped_session`` and its transaction.

    :param options: options of ``create_engine``.
    :param session_options: options of ``sessionmaker``.
    """

    def __init__(
        self, database: Database, *, session_options: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.database = database
        self._others: list[Shop] = []
        self.engine: Engine = create_engine(database.url, **options)
        self.session = scoped_session(sessionmaker(self.engine, **session_options or {}))
        self.transaction = SQLAlchemyTransaction(self.session, metadata=Base.metadata)

    def create_tables(self) -> Shop:
        Base.metadata.create_all(self.engine)
        return self

    def another(self, **options: Any) -> Shop:
        """The same shop in another process: it shares nothing but the database."""
        self._others.append(Shop(self.database, **options))
        return self._others[-1]

    def write(self, product: str) -> None:
        """Write a row, as a view does."""
        self.session.add(Order(product=product))
        self.session.flush()

    def products(self) -> list[str]:
        """What is committed."""
        with Session(self.engine) as session:
            return sorted(session.scalars(select(Order.product)))

    def count_answers(self) -> int:
        with self.engine.connect() as connection:
            answers = select(func.count()).select_from(self.transaction.table)
            return connection.scalars(answers).one()

    def close(self) -> None:
        self.session.remove()
        self.engine.dispose()
        for other in self._others:
            other.close()


MakeShop = Callable[..., Shop]


def answer(key: str = KEY, owner: bytes = OURS, *, ttl_ms: int = 60_000, **parts: Any) -> Answer:
    """An answer, with parts of its record."""
    record = CompletedRecord(owner, b"f" * 16, 1, 201, (("Location", "/orders/1"),), b"{}")
    record = record._replace(method="POST", endpoint="create", operation=b"op")
    return Answer(key, record._replace(**parts), ttl_ms)


def owner_of(shop: Shop) -> bytes | None:
    """The owner of the answer that is committed for ``KEY``; None for none."""
    stored = shop.transaction.look_up(KEY)
    return stored and stored.record.owner


def begin_for_real(shop: Shop, begin: str = "BEGIN") -> None:
    """SQLAlchemy's recipe for SQLite: transactions begin at once, and have a snapshot."""

    @event.listens_for(shop.engine, "connect")
    def configure(connection: object, record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]
        connection.execute("PRAGMA journal_mode = WAL")  # type: ignore[attr-defined]

    event.listen(shop.engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    shop.engine.dispose()
