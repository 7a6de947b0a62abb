"""Commits whose connection breaks: what was committed is looked up, or unknown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.exc import OperationalError

from flask_idempotent.engine.transactions import commit_answer
from flask_idempotent.errors import DatabaseUnavailable
from tests.contrib.sqlalchemy.shops import OURS, Shop, answer, on_servers, owner_of
from tests.support.databases import Database
from tests.support.proxy import Action, Fault, Proxy


class TestLostCommit:
    """The connection breaks at COMMIT."""

    @pytest.fixture
    def proxy(self, shop: Shop) -> Iterator[Proxy]:
        """Between another process of the shop and the server."""
        assert shop.database.server is not None
        proxy = Proxy(shop.database.server.port)
        yield proxy
        proxy.close()

    @pytest.fixture
    def ours(self, shop: Shop, proxy: Proxy) -> Iterator[Shop]:
        """Another process of the shop, whose view has written a row."""
        assert shop.database.server is not None
        url = shop.database.url.replace(f":{shop.database.server.port}/", f":{proxy.port}/")
        ours = Shop(Database(shop.database.kind, url))
        ours.transaction.begin()
        ours.write("mug")
        yield ours
        ours.close()

    @on_servers
    @pytest.mark.parametrize(("action", "committed"), [("cut before", False), ("lose reply", True)])
    def test_cut(
        self, shop: Shop, ours: Shop, proxy: Proxy, action: Action, committed: bool
    ) -> None:
        """What was committed is looked up on a new connection."""
        proxy.faults.append(Fault(b"COMMIT", action))
        if committed:
            assert commit_answer(ours.transaction, answer()).record.owner == OURS
        else:
            with pytest.raises(OperationalError):
                commit_answer(ours.transaction, answer())
        assert proxy.happened == [action]
        assert shop.products() == (["mug"] if committed else [])
        assert owner_of(shop) == (OURS if committed else None)

    @on_servers
    def test_cut_earlier(self, shop: Shop, ours: Shop, proxy: Proxy) -> None:
        """Where it breaks when the answer is written, the driver's error is raised."""
        proxy.faults.append(Fault(b"INSERT INTO idempotent", "cut before"))
        with pytest.raises(OperationalError):
            commit_answer(ours.transaction, answer())
        assert (shop.products(), owner_of(shop)) == ([], None)

    @on_servers
    def test_not_to_be_known(self, shop: Shop, ours: Shop, proxy: Proxy) -> None:
        """Where the database is away afterwards, it is unknown what was committed."""
        proxy.faults.append(Fault(b"COMMIT", "lose reply"))
        proxy.target = 1
        with pytest.raises(DatabaseUnavailable, match="unknown"):
            commit_answer(ours.transaction, answer())
        assert shop.products() == ["mug"]
