"""What operators ask of the table, and what they delete."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import ProgrammingError

from flask_idempotent.errors import DatabaseUnavailable
from tests.contrib.sqlalchemy.shops import Base, MakeShop, Shop, answer, begin_for_real
from tests.support.databases import Database

KEYS = [f"IDEMPOTENT_{{{number}}}" for number in range(4)]


@pytest.fixture
def used(shop: Shop) -> Shop:
    """A shop with three expired answers, and one that is kept."""
    for key in KEYS[:3]:
        shop.transaction.commit(answer(key, ttl_ms=-1))
    shop.transaction.commit(answer(KEYS[3]))
    return shop


def test_prune(used: Shop) -> None:
    """Expired answers are deleted, a batch in each transaction; the others stay."""
    assert used.transaction.count_expired() == 3
    assert [used.transaction.prune(2) for _ in range(3)] == [2, 1, 0]
    assert used.transaction.count_expired() == 0
    assert used.transaction.look_up(KEYS[3]) is not None


def test_prune_many(used: Shop) -> None:
    """A batch may be larger than what fits into one statement."""
    with used.engine.begin() as connection:
        connection.execute(used.transaction.table.delete())
        values = [
            {
                "storage_key": str(number), "fingerprint": b"f", "owner": b"o", "attempt": 1,
                "status": "200", "headers": "[]", "method": "", "endpoint": "", "operation": b"",
                "created": 0, "expires": 0,
            }
            for number in range(1201)
        ]  # fmt: skip
        connection.execute(used.transaction.table.insert(), values)
    assert [used.transaction.prune(1200) for _ in range(3)] == [1200, 1, 0]


def test_delete(used: Shop) -> None:
    """Answers of keys are deleted, whether they have expired or not."""
    assert used.transaction.delete([KEYS[0], KEYS[3], "IDEMPOTENT_{unknown}"]) == 2
    assert used.transaction.delete([]) == 0
    assert used.count_answers() == 2


def test_has_table(shop: Shop) -> None:
    """Whether the table is there can be asked; without it nothing else can."""
    assert shop.transaction.has_table()
    Base.metadata.drop_all(shop.engine)
    assert not shop.transaction.has_table()


def test_check(shop: Shop) -> None:
    """A session that can be used is said to be."""
    shop.transaction.check()
    assert not shop.session().in_transaction()


def test_check_away() -> None:
    """A database that is away is unavailable."""
    shop = Shop(Database("sqlite", "sqlite:////nowhere/at/all.db"))
    for ask in (shop.transaction.check, shop.transaction.has_table):
        with pytest.raises(DatabaseUnavailable):
            ask()
    shop.close()


def test_commits_at_savepoints(make_shop: MakeShop) -> None:
    """SQLite's driver commits at the end of a first savepoint, where transactions begin late."""
    shop = make_shop()
    assert shop.transaction.commits_at_savepoints() == (shop.database.kind == "sqlite")
    if shop.database.kind == "sqlite":
        begin_for_real(shop)
        assert not shop.transaction.commits_at_savepoints()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_other_errors(shop: Shop) -> None:
    """An error that says neither is raised as it is."""
    with shop.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE idempotent_answers DROP COLUMN expires")
    with pytest.raises(ProgrammingError, match="expires"):
        shop.transaction.count_expired()
