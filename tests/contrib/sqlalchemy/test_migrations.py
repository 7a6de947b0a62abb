"""The migration of the docs: Alembic writes it, and it makes the table that is used."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, MetaData, create_engine

from flask_idempotent.contrib.sqlalchemy import SQLAlchemyTransaction
from tests.contrib.sqlalchemy.shops import Shop, answer
from tests.support.databases import Database

MIGRATION = Path(__file__).parents[3] / "docs/examples/transactions/migration.py"


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """A connection to an empty database."""
    engine = create_engine(database.url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def metadata(database: Database) -> Iterator[MetaData]:
    """An application's metadata, with nothing but our table."""
    shop = Shop(database)
    metadata = MetaData()
    SQLAlchemyTransaction(shop.session, metadata=metadata)
    yield metadata
    shop.close()


def test_autogenerate(connection: Connection, metadata: MetaData) -> None:
    """Autogenerate writes what the page shows."""
    context = MigrationContext.configure(connection)
    operations = produce_migrations(context, metadata).upgrade_ops
    assert operations is not None
    code = render_python_code(operations, migration_context=context)
    assert _upgrade(MIGRATION.read_text()) == _upgrade(f"def upgrade():\n    {code}")


def _upgrade(code: str) -> list[str]:
    """The statements of a migration's ``upgrade``, whatever their format."""
    functions = (node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef))
    return [ast.dump(statement) for statement in next(functions).body]


def test_migration(database: Database, connection: Connection, metadata: MetaData) -> None:
    """The migration makes a table that autogenerate leaves alone and that works; and drops it."""
    context = MigrationContext.configure(connection)
    migration = runpy.run_path(str(MIGRATION))
    with Operations.context(context):
        migration["upgrade"]()
    connection.commit()
    operations = produce_migrations(context, metadata).upgrade_ops
    assert operations is not None
    assert operations.is_empty(), operations.as_diffs()
    shop = Shop(database)
    shop.transaction.commit(answer(body=b"x" * 70_000))
    assert shop.transaction.look_up("IDEMPOTENT_{a}") is not None
    shop.close()
    with Operations.context(context):
        migration["downgrade"]()
    operations = produce_migrations(context, metadata).upgrade_ops
    assert operations is not None
    assert not operations.is_empty()
