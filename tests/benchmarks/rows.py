"""The contestants whose view writes a row into a database."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask
from sqlalchemy import create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker

from flask_idempotent import idempotent
from flask_idempotent.contrib.sqlalchemy import SQLAlchemyTransaction
from tests.benchmarks.contestants import DATABASE, DATABASE_URL, order


class _Base(DeclarativeBase):
    pass


class _Order(_Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]


def with_rows(app: Flask, *, in_transaction: bool) -> Flask:
    """Let the view write a row, and protect it.

    :param in_transaction: whether the row is committed together with the answer; else the view
        commits by itself.
    """
    app.extensions[DATABASE] = engine = create_engine(os.environ[DATABASE_URL])
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _skip_disk)
    session = scoped_session(sessionmaker(engine))
    app.teardown_appcontext(lambda _: session.remove())

    def order_with_row() -> tuple[dict[str, Any], int]:
        answer = order()
        session.add(_Order(amount=answer[0]["amount"]))
        session.flush()
        if not in_transaction:
            session.commit()
        return answer

    transaction = SQLAlchemyTransaction(session, metadata=_Base.metadata)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # The contestants start at the same time.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
        _Base.metadata.create_all(connection)
    protect = idempotent(transaction=transaction) if in_transaction else idempotent
    app.view_functions["order"] = protect(order_with_row)
    return app


def _skip_disk(connection: Any, _: object) -> None:
    # As the tests' PostgreSQL does: waiting for the disk takes the same time in both.
    connection.execute("PRAGMA synchronous = OFF")
