"""Look-ups on connections that broke, and in databases that cannot be asked."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from flask_idempotent.errors import DatabaseUnavailable, SettingsError
from tests.contrib.sqlalchemy.shops import (
    KEY,
    OURS,
    MakeShop,
    Order,
    Shop,
    answer,
    on_postgresql,
    on_servers,
    on_sqlite,
    owner_of,
)
from tests.support.databases import Database
from tests.support.proxy import Proxy

#: Ends all connections of the user but this one, as an administrator or a failover does.
KILL = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = :id",
    "mariadb": "KILL :id",
}
CONNECTION_ID = {"postgresql": "SELECT pg_backend_pid()", "mariadb": "SELECT connection_id()"}


def cut(shop: Shop, connection_id: int) -> None:
    """Break a connection, from another one."""
    other = create_engine(shop.database.url, isolation_level="AUTOCOMMIT")
    with other.connect() as connection:
        connection.execute(text(KILL[shop.database.kind]), {"id": connection_id})
    other.dispose()


class TestBroken:
    """Connections that broke, and databases that are away."""

    @on_servers
    def test_idle_connections(self, shop: Shop) -> None:
        """An idle connection of the pool that broke is opened again."""
        shop.transaction.commit(answer())
        with shop.engine.connect() as connection:
            number = connection.scalar(text(CONNECTION_ID[shop.database.kind]))
        cut(shop, number)
        assert owner_of(shop) == OURS

    @on_servers
    def test_connection_of_the_transaction(self, shop: Shop) -> None:
        """Where the transaction's connection broke, another one is used."""
        number = shop.session.scalar(text(CONNECTION_ID[shop.database.kind]))
        cut(shop, number)
        assert owner_of(shop) is None
        shop.transaction.roll_back()
        shop.transaction.commit(answer())
        assert owner_of(shop) == OURS

    @on_servers
    def test_noticed_before(self, shop: Shop) -> None:
        """Where a user loader has met the broken connection, and went on without a user, too."""
        cut(shop, shop.session.scalar(text(CONNECTION_ID[shop.database.kind])))
        with pytest.raises(DBAPIError):
            shop.session.query(Order).all()
        assert owner_of(shop) is None

    @on_servers
    def test_roll_back(self, shop: Shop) -> None:
        """Where it broke unnoticed, the database has rolled back."""
        shop.transaction.begin()
        shop.write("mug")
        cut(shop, shop.session.scalar(text(CONNECTION_ID[shop.database.kind])))
        shop.transaction.roll_back()
        shop.write("teapot")
        shop.transaction.commit(answer())
        assert shop.products() == ["teapot"]

    @on_postgresql
    def test_failed_transaction(self, shop: Shop) -> None:
        """Where the transaction has failed, another one is used."""
        with pytest.raises(DBAPIError):
            shop.session.execute(text("SELECT 1 / 0"))
        assert owner_of(shop) is None

    def test_missing_table(self, make_shop: MakeShop) -> None:
        """A missing table is an error that says how to create it."""
        shop = make_shop()
        shop.transaction.table.drop(shop.engine)
        with pytest.raises(SettingsError, match=r"create_all\(\).*flask db migrate"):
            shop.transaction.look_up(KEY)
        assert not shop.session().in_transaction()

    @on_servers
    def test_away(self, shop: Shop) -> None:
        """A database that refuses connections is unavailable, and the error shows no password."""
        server = shop.database.server
        assert server is not None
        proxy = Proxy(server.port)
        url = shop.database.url.replace(
            f"@127.0.0.1:{server.port}", f":secret@127.0.0.1:{proxy.port}"
        )
        proxy.close()
        away = Shop(Database(shop.database.kind, url))
        with pytest.raises(DatabaseUnavailable) as raised:
            away.transaction.look_up(KEY)
        assert "secret" not in str(raised.value)
        away.close()

    @on_sqlite
    def test_no_permission(self, shop: Shop) -> None:
        """A database file that cannot be opened is unavailable, in the driver's words."""
        away = Shop(Database("sqlite", "sqlite:////nowhere/at/all.db"))
        with pytest.raises(DatabaseUnavailable, match=r"^unable to open"):
            away.transaction.look_up(KEY)
        away.close()
