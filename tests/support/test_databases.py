"""The databases of the tests."""

from __future__ import annotations

from sqlalchemy import create_engine, text

from tests.support.databases import Database


def test_empty(database: Database) -> None:
    """Each kind of database starts, and each test has one of its own."""
    engine = create_engine(database.url)
    with engine.begin() as connection:
        assert engine.dialect.name == database.kind.replace("mariadb", "mysql")
        connection.execute(text("CREATE TABLE orders (id INTEGER)"))
    engine.dispose()
