"""Views that commit by themselves, which ``has_committed`` notices."""

from __future__ import annotations

import gc
import weakref

from flask_idempotent.engine.transactions import commit_answer
from tests.contrib.sqlalchemy.shops import (
    KEY,
    OURS,
    MakeShop,
    Shop,
    answer,
    begin_for_real,
    on_sqlite,
    owner_of,
)


class TestViewsOwnCommit:
    """``has_committed``: whether the view has committed by itself."""

    def test_savepoints(self, make_shop: MakeShop) -> None:
        """A savepoint is not a commit, and what was written in one is committed with the answer."""
        shop = make_shop()
        if shop.database.kind == "sqlite":
            begin_for_real(shop)
        shop.transaction.begin()
        with shop.session.begin_nested():
            shop.write("mug")
        shop.session.begin_nested()
        shop.write("teapot")
        assert not shop.transaction.has_committed()
        shop.transaction.commit(answer())
        assert shop.products() == ["mug", "teapot"]

    @on_sqlite
    def test_in_a_savepoint(self, make_shop: MakeShop) -> None:
        """A commit while a savepoint is open is one."""
        shop = make_shop()
        shop.transaction.begin()
        shop.session.begin_nested()
        shop.write("mug")
        shop.session.commit()
        assert shop.transaction.has_committed()

    def test_with_begin(self, shop: Shop) -> None:
        """``with session.begin()`` commits; the answer follows in a transaction of its own."""
        shop.transaction.look_up(KEY)
        shop.transaction.begin()
        with shop.session.begin():
            shop.write("mug")
        assert shop.transaction.has_committed()
        assert commit_answer(shop.transaction, answer()).record.owner == OURS
        assert (shop.products(), owner_of(shop)) == (["mug"], OURS)

    @on_sqlite
    def test_without_autobegin(self, make_shop: MakeShop) -> None:
        """A session that never begins by itself works too."""
        shop = make_shop(session_options={"autobegin": False})
        assert shop.transaction.look_up(KEY) is None
        shop.transaction.begin()
        shop.transaction.commit(None)
        with shop.session.begin():
            shop.write("mug")
        shop.transaction.commit(answer())
        assert (shop.products(), owner_of(shop)) == (["mug"], OURS)

    @on_sqlite
    def test_commit_of_nothing(self, shop: Shop) -> None:
        """A commit before anything was sent commits nothing."""
        shop.transaction.begin()
        shop.session.commit()
        assert not shop.transaction.has_committed()

    @on_sqlite
    def test_flush_and_roll_back(self, shop: Shop) -> None:
        """Neither a flush nor a rollback is a commit."""
        shop.transaction.begin()
        shop.write("mug")
        shop.session.rollback()
        shop.write("teapot")
        assert not shop.transaction.has_committed()

    def test_autocommit(self, shop: Shop) -> None:
        """A view that switches to AUTOCOMMIT commits each statement."""
        shop.transaction.begin()
        shop.session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        assert shop.transaction.has_committed()

    @on_sqlite
    def test_ends_with_the_run(self, shop: Shop) -> None:
        """What is committed before ``begin`` or after the end is not the view's."""
        shop.write("mug")
        shop.session.commit()
        shop.transaction.begin()
        assert not shop.transaction.has_committed()
        shop.transaction.roll_back()
        shop.write("teapot")
        shop.session.commit()
        assert not shop.transaction.has_committed()
        assert not shop.session.info

    @on_sqlite
    def test_removed_session(self, shop: Shop) -> None:
        """A commit is noticed before and after the view removes its session, too."""
        shop.transaction.begin()
        shop.write("mug")
        shop.session.commit()
        shop.session.remove()
        assert shop.transaction.has_committed()
        shop.transaction.commit(answer())
        assert not shop.transaction.has_committed()
        shop.transaction.begin()
        shop.session.remove()
        shop.write("teapot")
        assert not shop.transaction.has_committed()
        shop.session.commit()
        assert shop.transaction.has_committed()

    @on_sqlite
    def test_removed_session_is_forgotten(self, shop: Shop) -> None:
        """The run of a session that the view has removed ends like any other."""
        shop.transaction.begin()
        removed = weakref.ref(shop.session())
        shop.session.remove()
        shop.transaction.roll_back()
        gc.collect()
        assert removed() is None

    @on_sqlite
    def test_request_in_a_view(self, shop: Shop) -> None:
        """A view that calls another view has a transaction of its own."""
        inner = shop.another()
        shop.transaction.begin()
        inner.transaction.begin()
        inner.write("mug")
        inner.session.commit()
        assert inner.transaction.has_committed()
        inner.transaction.roll_back()
        assert not shop.transaction.has_committed()
        shop.write("teapot")
        shop.session.commit()
        assert shop.transaction.has_committed()
