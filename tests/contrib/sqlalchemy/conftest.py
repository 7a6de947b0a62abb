"""Fixtures: shops over each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contrib.sqlalchemy.shops import MakeShop, Shop
from tests.support.databases import Database


@pytest.fixture
def make_shop(database: Database) -> Iterator[MakeShop]:
    """Makes shops over the test's database, and closes them."""
    shops = []

    def make(**options: Any) -> Shop:
        shops.append(Shop(database, **options).create_tables())
        return shops[-1]

    yield make
    for shop in shops:
        shop.close()


@pytest.fixture
def shop(make_shop: MakeShop) -> Shop:
    """A shop with its tables."""
    return make_shop()
