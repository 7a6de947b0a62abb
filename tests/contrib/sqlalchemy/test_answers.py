"""The row of an answer: what is written, what is read, and who may replace it."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from flask_idempotent.engine.transactions import Answer, commit_answer
from flask_idempotent.errors import RecordUnreadable
from tests.contrib.sqlalchemy.shops import KEY, OURS, THEIRS, Shop, answer
from tests.support.databases import Database

VALUE = "/a" + "\xe9" * 3


def commit(shop: Shop, wanted: Answer, product: str, replaces: bytes | None = None) -> Answer:
    """Run a view that writes a row."""
    shop.transaction.begin()
    shop.write(product)
    return commit_answer(shop.transaction, wanted, replaces=replaces)


class TestRow:
    """What is written is what is read."""

    @pytest.mark.parametrize("size", [0, 1 << 20])
    def test_body(self, shop: Shop, size: int) -> None:
        """A body of any size comes back whole; MySQL's BLOB would end at 64 KiB."""
        body = bytes(range(256)) * (size // 256)
        shop.transaction.commit(answer(body=body))
        stored = shop.transaction.look_up(KEY)
        assert stored is not None
        assert stored.record.body == body

    @pytest.mark.parametrize("status", [200, "299 Done with it"])
    def test_every_part(self, shop: Shop, status: int | str) -> None:
        """Every part of the response comes back, and the time is the database's."""
        headers = (("Link", "</a>"), ("Link", VALUE), ("X-Empty", ""))
        session = bytes(range(256))
        wanted = answer(status=status, headers=headers, body=None, attempt=0, session=session)
        shop.transaction.commit(wanted)
        stored = shop.transaction.look_up(KEY)
        assert stored is not None
        assert stored.record._replace(time=0.0) == wanted.record
        assert abs(stored.record.time - time.time()) < 60
        assert 50_000 < stored.ttl_ms <= 60_000

    def test_key_is_compared_exactly(self, shop: Shop) -> None:
        """Two keys that differ only in case are two; MySQL compares without case by default."""
        shop.transaction.commit(answer())
        assert shop.transaction.look_up("IDEMPOTENT_{A}") is None
        shop.transaction.commit(answer("IDEMPOTENT_{A}", THEIRS))
        assert shop.count_answers() == 2

    @pytest.mark.parametrize("database", ["sqlite"], indirect=True)
    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("headers", "{"),
            ("headers", '[["A","b\\n"]]'),
            ("status", "099"),
            ("body", "text"),
            ("session", "text"),
        ],
    )
    def test_damaged(self, shop: Shop, column: str, value: str) -> None:
        """R12: a row that cannot be sent is not."""
        shop.transaction.commit(answer())
        with shop.engine.begin() as connection:
            statement = text(f"UPDATE idempotent_answers SET {column} = :value")
            connection.execute(statement, {"value": value})
        with pytest.raises(RecordUnreadable):
            shop.transaction.look_up(KEY)


class TestFirst:
    """One commit a key."""

    def test_rows_and_answer_together(self, shop: Shop) -> None:
        """What the view wrote is committed with its answer."""
        wanted = answer()
        assert commit(shop, wanted, "mug") is wanted
        assert shop.products() == ["mug"]

    def test_second_commit(self, shop: Shop) -> None:
        """A second run's rows are rolled back, and the first answer is the key's."""
        commit(shop, answer(), "mug")
        stored = commit(shop.another(), answer(owner=THEIRS), "teapot")
        assert stored.record.owner == OURS
        assert shop.products() == ["mug"]

    def test_expired_answer_stays_the_keys(self, shop: Shop) -> None:
        """An expired answer that was not looked up is in the way too."""
        commit(shop, answer(ttl_ms=-5), "mug")
        stored = commit(shop, answer(owner=THEIRS), "teapot")
        assert (stored.record.owner, stored.ttl_ms < 0) == (OURS, True)
        assert shop.products() == ["mug"]

    def test_replaced(self, shop: Shop) -> None:
        """An expired or corrected answer is replaced by the run that has looked it up."""
        commit(shop, answer(ttl_ms=-5), "mug")
        wanted = answer(owner=THEIRS, status=200)
        assert commit(shop, wanted, "teapot", replaces=OURS) is wanted
        stored = shop.transaction.look_up(KEY)
        assert stored is not None
        assert (stored.record.owner, stored.record.status) == (THEIRS, 200)
        assert stored.ttl_ms > 0
        assert shop.products() == ["mug", "teapot"]

    def test_replaced_by_another_run(self, shop: Shop) -> None:
        """Of two runs that have seen the same expired answer, one commits."""
        commit(shop, answer(ttl_ms=-5), "mug")
        commit(shop, answer(owner=THEIRS), "teapot", replaces=OURS)
        stored = commit(shop, answer(owner=b"z" * 16), "jar", replaces=OURS)
        assert stored.record.owner == THEIRS
        assert shop.products() == ["mug", "teapot"]

    def test_replaced_answer_was_pruned(self, shop: Shop) -> None:
        """A run may replace an answer that has been pruned since it was looked up."""
        wanted = answer(owner=THEIRS)
        assert commit(shop, wanted, "mug", replaces=OURS) is wanted
        assert shop.products() == ["mug"]

    def test_views_own_error(self, shop: Shop) -> None:
        """Where the view's own rows are refused, its error is raised and nothing is committed."""
        commit(shop, answer("IDEMPOTENT_{b}"), "mug")
        shop.transaction.begin()
        with pytest.raises(IntegrityError, match="orders"):
            commit(shop, answer(), "mug")
        shop.transaction.roll_back()
        assert shop.count_answers() == 1

    def test_without_answer(self, shop: Shop) -> None:
        """A view's rows are committed without an answer, also where there are none."""
        shop.transaction.commit(None)
        shop.transaction.begin()
        shop.write("mug")
        shop.transaction.commit(None)
        assert (shop.products(), shop.count_answers()) == (["mug"], 0)

    def test_rolled_back(self, shop: Shop) -> None:
        """What a view wrote is discarded."""
        shop.transaction.begin()
        shop.write("mug")
        shop.transaction.roll_back()
        shop.transaction.commit(answer())
        assert (shop.products(), shop.count_answers()) == ([], 1)

    @pytest.mark.parametrize("database", ["mariadb"], indirect=True)
    def test_dialect_of_mariadb(self, database: Database) -> None:
        """SQLAlchemy has two names for MariaDB, which work alike."""
        url = database.url.replace("mysql+", "mariadb+")
        shop = Shop(database._replace(url=url)).create_tables()
        wanted = answer(body=b"x" * 70_000)
        assert commit(shop, wanted, "mug") is wanted
        assert shop.transaction.look_up("IDEMPOTENT_{A}") is None
        assert commit(shop, answer(owner=THEIRS), "teapot").record.body == wanted.record.body
        shop.close()
