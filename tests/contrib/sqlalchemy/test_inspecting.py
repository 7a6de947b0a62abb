"""What the transaction says of itself to operators."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData, create_engine, event
from sqlalchemy.orm import scoped_session, sessionmaker

from flask_idempotent.contrib.sqlalchemy import SQLAlchemyTransaction
from flask_idempotent.doctor import transaction_checks
from flask_idempotent.errors import DatabaseUnavailable
from tests.contrib.sqlalchemy.shops import MakeShop, Order, Shop, answer
from tests.support.databases import Database

HOUR_MS = 3_600_000


def test_longest_expired(shop: Shop) -> None:
    """Since when the answer that expired first has been expired; None where none is."""
    assert shop.transaction.longest_expired() is None
    shop.transaction.commit(answer("a"))
    assert shop.transaction.longest_expired() is None
    for hours in (1, 3, 2):
        shop.transaction.commit(answer(str(hours), ttl_ms=-hours * HOUR_MS))
    seconds = shop.transaction.longest_expired()
    assert seconds is not None
    assert 0 <= seconds - 3 * 3600 < 60


def test_savepoints(shop: Shop) -> None:
    """SQLite's driver begins too late for savepoints; that is said, with the way out."""
    texts = [weakness.text for weakness in shop.transaction.weaknesses()]
    if shop.engine.dialect.name == "sqlite":
        (text,) = texts
        assert "begin_nested" in text
        event.listen(shop.engine, "connect", leave_to_sqlalchemy)
        event.listen(shop.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        shop.engine.dispose()
        assert list(shop.transaction.weaknesses()) == []
    else:
        assert texts == []


def leave_to_sqlalchemy(connection: Any, _record: object) -> None:
    connection.isolation_level = None


def test_database_away(make_shop: MakeShop) -> None:
    """A database that cannot be opened is said to be away."""
    session = scoped_session(sessionmaker(create_engine("sqlite:////nowhere/at/all.sqlite3")))
    transaction = SQLAlchemyTransaction(session, metadata=MetaData())
    for ask in (transaction.longest_expired, transaction.weaknesses):
        with pytest.raises(DatabaseUnavailable):
            ask()
    session.remove()


def test_thread_local(shop: Shop) -> None:
    """Each thread has a session of its own, unless there is a scopefunc: Flask-SQLAlchemy has."""
    assert shop.transaction.is_thread_local
    session = scoped_session(sessionmaker(), scopefunc=lambda: 1)
    assert not SQLAlchemyTransaction(session, metadata=MetaData()).is_thread_local
    app = Flask("tests")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    assert not SQLAlchemyTransaction(SQLAlchemy(app)).is_thread_local


def test_repr(shop: Shop) -> None:
    """Its repr has the table, and nothing of the database's address."""
    assert repr(shop.transaction) == "SQLAlchemyTransaction(table_name='idempotent_answers')"


class TestDoctor:
    """What ``flask idempotent doctor`` says of it."""

    def test_missing_table(self, database: Database) -> None:
        """A missing table is an error that says how to create it."""
        shop = Shop(database)
        (finding,) = transaction_checks.database(shop.transaction)
        assert (finding.level, "create_all" in finding.text) == ("error", True)
        shop.close()

    def test_several_binds(self, make_shop: MakeShop) -> None:
        """A session that writes to several databases is an error."""
        shop = make_shop()
        other = create_engine("sqlite://")
        shop.session.configure(binds={Order: other})
        (finding,) = transaction_checks.database(shop.transaction)
        assert (finding.level, "binds" in finding.text) == ("error", True)
        other.dispose()

    def test_unpruned(self, shop: Shop) -> None:
        """Answers that expired days ago are a warning until they are pruned."""
        shop.transaction.commit(answer(ttl_ms=-100 * HOUR_MS))
        assert "prune" in {
            finding.check for finding in transaction_checks.database(shop.transaction)
        }
        shop.transaction.prune(10)
        checks = {finding.check for finding in transaction_checks.database(shop.transaction)}
        assert checks == {"transaction"}
