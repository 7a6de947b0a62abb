"""Committing: locks, and the database's own errors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from flask_idempotent.contrib.sqlalchemy.table import NowMs
from flask_idempotent.engine.transactions import commit_answer
from flask_idempotent.errors import DatabaseUnavailable
from tests.contrib.sqlalchemy.shops import (
    KEY,
    OURS,
    THEIRS,
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

Background = Callable[..., Future[Any]]

LOCK_WAIT = {
    "sqlite": "PRAGMA busy_timeout",
    "postgresql": "SELECT current_setting('lock_timeout')",
    "mariadb": "SELECT @@SESSION.innodb_lock_wait_timeout",
}


class Stopped:
    """Another owner that has written its answer, and stopped before its COMMIT."""

    def __init__(self, shop: Shop, background: Background) -> None:
        self._reached, self._go_on = threading.Event(), threading.Event()
        other = shop.another()
        event.listen(other.engine, "commit", self._stop)
        self._committed = background(other.transaction.commit, answer(owner=THEIRS))
        assert self._reached.wait(5)

    def _stop(self, connection: object) -> None:
        self._reached.set()
        assert self._go_on.wait(20)

    def commit(self) -> None:
        self._go_on.set()
        self._committed.result(5)


class TestLocked:
    """Another owner is between its INSERT and its COMMIT."""

    def test_bounded(self, make_shop: MakeShop, database: Database, background: Background) -> None:
        """The INSERT waits a second or two, and the database is unavailable then."""
        patient = {"connect_args": {"timeout": 60}} if database.kind == "sqlite" else {}
        shop = make_shop(**patient)
        other = Stopped(shop, background)
        shop.transaction.begin()
        with pytest.raises(DatabaseUnavailable, match=r"\{a\} locked"):
            commit_answer(shop.transaction, answer())
        other.commit()
        assert owner_of(shop) == THEIRS

    def test_commits_meanwhile(self, shop: Shop, background: Background) -> None:
        """When the other commits in time, its answer is this request's too."""
        other = Stopped(shop, background)
        waiting = threading.Event()

        def commit() -> bytes:
            waiting.set()
            stored = commit_answer(shop.transaction, answer())
            shop.session.remove()
            return stored.record.owner

        ours = background(commit)
        assert waiting.wait(5)
        other.commit()
        assert ours.result(5) == THEIRS

    def test_wait_is_restored(self, shop: Shop) -> None:
        """The limit holds for our statements only: the connection has its own one afterwards."""
        statement = text(LOCK_WAIT[shop.database.kind])
        before = shop.session.scalar(statement)
        shop.transaction.commit(answer())
        assert shop.session.scalar(statement) == before


class TestOwnErrors:
    """Where no answer is there after a failed commit, the view's own error is raised."""

    @on_postgresql
    def test_serializable_conflict(self, make_shop: MakeShop) -> None:
        """Under SERIALIZABLE a conflict on the key is a 40001, and the first's answer is there."""
        ours, theirs = (make_shop(isolation_level="SERIALIZABLE") for _ in range(2))
        for shop, product in ((ours, "mug"), (theirs, "teapot")):
            assert shop.transaction.look_up(KEY) is None
            shop.transaction.begin()
            shop.session.query(Order).all()
            shop.write(product)
        assert commit_answer(theirs.transaction, answer(owner=THEIRS)).record.owner == THEIRS
        assert commit_answer(ours.transaction, answer()).record.owner == THEIRS
        assert ours.products() == ["teapot"]

    @on_postgresql
    def test_serialization_failure(self, make_shop: MakeShop) -> None:
        """A serialization failure of the view's own rows is raised."""
        ours, theirs = (make_shop(isolation_level="SERIALIZABLE") for _ in range(2))
        for shop, product in ((ours, "mug"), (theirs, "teapot")):
            shop.transaction.begin()
            shop.session.query(Order).all()
            shop.write(product)
        commit_answer(theirs.transaction, answer("IDEMPOTENT_{b}"))
        with pytest.raises(OperationalError, match="could not serialize"):
            commit_answer(ours.transaction, answer())
        assert ours.count_answers() == 1

    @on_postgresql
    def test_deferred_constraint(self, make_shop: MakeShop) -> None:
        """A constraint that is checked at COMMIT leaves nothing behind."""
        shop = make_shop()
        shop.write("mug")
        shop.session.commit()
        shop.session.execute(
            text(
                "CREATE TABLE refunds (id INTEGER REFERENCES orders DEFERRABLE INITIALLY DEFERRED)"
            )
        )
        shop.session.commit()
        shop.transaction.begin()
        shop.session.execute(text("INSERT INTO refunds VALUES (99)"))
        with pytest.raises(IntegrityError, match="refunds"):
            commit_answer(shop.transaction, answer())
        assert owner_of(shop) is None

    @on_sqlite
    def test_database_is_locked(self, make_shop: MakeShop, background: Background) -> None:
        """SQLite's "database is locked" at the view's own rows is raised."""
        shop = make_shop(connect_args={"timeout": 0.001})
        other = Stopped(shop, background)
        shop.transaction.begin()
        shop.session.add(Order(product="mug"))
        with pytest.raises(OperationalError, match="locked"):
            commit_answer(shop.transaction, answer("IDEMPOTENT_{b}"))
        other.commit()
        assert (shop.products(), shop.count_answers()) == ([], 1)

    @on_servers
    def test_deadlock(self, shop: Shop, background: Background) -> None:
        """A deadlock of the views is raised where it is noticed, and the other one commits."""
        for product in ("mug", "teapot"):
            shop.write(product)
        shop.session.commit()
        other = shop.another()
        if shop.database.kind == "postgresql":
            for each in (shop, other):
                each.session.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
        lock = "UPDATE orders SET product = product WHERE product = :product"
        shop.session.execute(text(lock), {"product": "mug"})
        other.session.execute(text(lock), {"product": "teapot"})
        failed = threading.Event()

        def cross(session: Session, product: str, owner: bytes) -> object:
            try:
                session.execute(text(lock), {"product": product})
            except OperationalError:
                session.rollback()
                failed.set()
                return None
            session.commit()
            return owner

        ours = background(cross, shop.session(), "teapot", OURS)
        theirs = background(cross, other.session(), "mug", THEIRS)
        assert {ours.result(10), theirs.result(10)} in ({None, OURS}, {None, THEIRS})
        assert failed.is_set()


def test_statements(shop: Shop) -> None:
    """A first request reads one row, and writes its own one last, just before COMMIT."""
    shop.transaction.look_up("IDEMPOTENT_{b}")
    events: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        events.append(" ".join(statement.split()[:3]))

    event.listen(shop.engine, "before_cursor_execute", note)
    event.listen(shop.engine, "commit", lambda connection: events.append("COMMIT"))
    assert shop.transaction.look_up(KEY) is None
    shop.transaction.begin()
    shop.session.add(Order(product="mug"))
    shop.transaction.commit(answer())
    written = [event for event in events if event.startswith(("INSERT", "UPDATE", "COMMIT"))]
    assert written == ["INSERT INTO orders", "INSERT INTO idempotent_answers", "COMMIT"]
    assert sum(event.startswith("SELECT") for event in events) == 1
    assert shop.products() == ["mug"]


@on_servers
def test_view_longer_than_its_answer(shop: Shop) -> None:
    """Times are those of the INSERT, not of the transaction's start, which may be long ago."""
    pause = {"postgresql": "SELECT pg_sleep(0.05)", "mariadb": "SELECT SLEEP(0.05)"}
    before = shop.session.scalar(select(NowMs()))
    shop.session.execute(text(pause[shop.database.kind]))
    shop.transaction.commit(answer())
    stored = shop.transaction.look_up(KEY)
    assert stored is not None
    assert stored.record.time * 1000 >= before + 50
