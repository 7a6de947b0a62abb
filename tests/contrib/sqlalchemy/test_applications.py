"""Applications: Flask-SQLAlchemy and a plain ``scoped_session``, from request to database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, request
from flask.globals import app_ctx
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData, String, create_engine, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    mapped_column,
    scoped_session,
    sessionmaker,
)
from werkzeug.test import TestResponse

from flask_idempotent import Idempotent
from flask_idempotent.contrib.sqlalchemy import SQLAlchemyTransaction
from flask_idempotent.web.state import EXTENSION_KEY
from tests.conftest import MakeApp
from tests.contrib.sqlalchemy.shops import on_sqlite
from tests.support.clients import post, problem
from tests.support.databases import Database

MakeWebShop = Callable[..., "WebShop"]


class WebShop:
    """An application whose view orders a product, and what its database has.

    :param session: what its views write to.
    :param order: the model.
    """

    def __init__(
        self, app: Flask, session: Any, order: Any, transaction: SQLAlchemyTransaction
    ) -> None:
        self.app, self.session, self.order = app, session, order
        self.transaction = transaction
        self.runs = 0
        #: What the view does after it has written a row.
        self.then: Callable[[], Any] = lambda: (f"run {self.runs}", 201)
        app.add_url_rule("/<product>", "create", self._create, methods=["POST"])

    def _create(self, product: str) -> Any:
        self.runs += 1
        self.session.add(self.order(product=product))
        self.session.flush()
        return self.then()

    def post(self, product: str = "mug", key: str | None = "key-one") -> TestResponse:
        return post(self.app, key, f"/{product}")

    def forget(self) -> None:
        """Let the store lose every record."""
        store = self.app.extensions[EXTENSION_KEY].engine.store
        store.delete(store.scan(""))

    def products(self) -> list[str]:
        with self.app.app_context():
            products = sorted(self.session.scalars(select(self.order.product)))
            self.session.remove()
            return products

    def count_answers(self) -> int:
        with self.app.app_context():
            answers = select(func.count()).select_from(self.transaction.table)
            count: int = self.session.scalar(answers)
            self.session.remove()
            return count


class Columns:
    """An order; a product is sold once."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    product: Mapped[str] = mapped_column(String(50), unique=True)


def flask_sqlalchemy_shop(app: Flask, database: Database, **overrides: Any) -> WebShop:
    app.config["SQLALCHEMY_DATABASE_URI"] = database.url

    class Base(DeclarativeBase):
        metadata = MetaData()

    db = SQLAlchemy(app, model_class=Base)
    order = type("Order", (Columns, db.Model), {})
    transaction = SQLAlchemyTransaction(db)
    Idempotent(app, transaction=transaction, **overrides)
    with app.app_context():
        db.create_all()
    return WebShop(app, db.session, order, transaction)


def plain_shop(
    app: Flask,
    database: Database,
    scopefunc: Callable[[], object] | None = None,
    **overrides: Any,
) -> WebShop:
    class Base(DeclarativeBase):
        metadata = MetaData()

    order = type("Order", (Columns, Base), {})
    engine = create_engine(database.url)
    session = scoped_session(sessionmaker(engine), scopefunc)
    transaction = SQLAlchemyTransaction(session, metadata=Base.metadata)
    Base.metadata.create_all(engine)
    app.teardown_appcontext(lambda _: session.remove())
    Idempotent(app, transaction=transaction, **overrides)
    return WebShop(app, session, order, transaction)


KINDS = {"flask-sqlalchemy": flask_sqlalchemy_shop, "plain": plain_shop}


@pytest.fixture
def make_web_shop(
    request: pytest.FixtureRequest, make_app: MakeApp, database: Database
) -> Iterator[MakeWebShop]:
    """Makes shops over the test's database, of the kind that the test names."""
    shops: list[WebShop] = []

    def make(kind: str = "plain", **overrides: Any) -> WebShop:
        shops.append(KINDS[kind](make_app(wide=False), database, **overrides))
        return shops[-1]

    yield make
    for shop in shops:
        with shop.app.app_context():
            engine = shop.session.get_bind()
            shop.session.remove()
            engine.dispose()


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest, make_web_shop: MakeWebShop) -> WebShop:
    """A shop of each kind."""
    return make_web_shop(request.param)


class TestEachDatabase:
    def test_once(self, shop: WebShop) -> None:
        """A duplicate gets the answer, from the database where the store has forgotten it."""
        first = shop.post()
        assert (first.status_code, first.text) == (201, "run 1")
        for _ in "ab":
            shop.forget()
            again = shop.post()
            assert (again.status_code, again.text) == (201, "run 1")
            assert again.headers["Idempotent-Replayed"] == "true"
        shop.forget()
        assert problem(shop.post("teapot")) == (422, "key-reused")
        assert (shop.products(), shop.count_answers(), shop.runs) == (["mug"], 1, 1)

    @on_sqlite
    def test_refused_at_the_commit(self, shop: WebShop) -> None:
        """What the database refuses is the view's error, and the key runs again."""
        shop.app.register_error_handler(IntegrityError, lambda _: ("taken", 409))
        shop.post()
        for _ in "ab":
            answer = shop.post(key="key-two")
            assert (answer.status_code, answer.text) == (409, "taken")
        assert (shop.products(), shop.count_answers()) == (["mug"], 2)

    def test_two_owners(self, make_web_shop: MakeWebShop) -> None:
        """An owner that is late gets the answer of the one that was first, and writes nothing."""
        shop = make_web_shop()

        def overtaken() -> Any:
            shop.then = lambda: ("the other run", 201)
            shop.forget()
            # The same request from another client, while this one's row is not written yet.
            shop.session.rollback()
            other = shop.app.test_client().post(
                request.path, headers={"Idempotency-Key": request.headers["Idempotency-Key"]}
            )
            assert other.text == "the other run"
            return "late", 201

        shop.then = overtaken
        assert shop.post().text == "the other run"
        assert (shop.products(), shop.count_answers()) == (["mug"], 1)


@on_sqlite
class TestViews:
    def test_errors(self, shop: WebShop) -> None:
        """An exception, or an answer from 400 on, discards what the view wrote."""
        shop.then = lambda: ("no", 500)
        shop.post("mug")
        shop.then = lambda: 1 / 0
        shop.post("mug", "key-two")
        shop.then = lambda: ("no", 422)
        assert [shop.post("mug", "key-three").text for _ in "ab"] == ["no", "no"]
        # The last one is kept, in a transaction of its own.
        assert (shop.products(), shop.count_answers()) == ([], 1)

    def test_without_a_key(self, shop: WebShop) -> None:
        """A request without a key is committed too, without an answer."""
        assert shop.post(key=None).text == "run 1"
        shop.then = lambda: ("no", 400)
        shop.post("teapot", key=None)
        assert (shop.products(), shop.count_answers()) == (["mug"], 0)

    def test_commits_by_itself(
        self, make_web_shop: MakeWebShop, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A view that commits is named in the log; its answer follows at once."""
        shop = make_web_shop()
        shop.then = lambda: shop.session.commit() or ("done", 201)
        with caplog.at_level(logging.ERROR, "flask_idempotent"):
            assert shop.post().text == "done"
        assert "create commits by itself" in caplog.text
        assert (shop.products(), shop.count_answers()) == (["mug"], 1)

    def test_user_loader(self, shop: WebShop) -> None:
        """What runs before the view may have used the session."""

        @shop.app.before_request
        def load_user() -> None:
            shop.session.execute(select(shop.order.id)).all()

        assert shop.post().text == "run 1"
        shop.forget()
        assert shop.post().text == "run 1"
        assert shop.products() == ["mug"]

    def test_missing_table(self, make_web_shop: MakeWebShop) -> None:
        """Without its table no view runs, and the error says what to do."""
        shop = make_web_shop()
        shop.app.testing = True
        shop.transaction.table.drop(shop.session.get_bind())
        with pytest.raises(ValueError, match="create_all"):
            shop.post()
        assert shop.runs == 0

    def test_nothing_is_left(self, shop: WebShop) -> None:
        """After each request its connection is back in the pool, and the session knows nothing."""
        left: list[object] = []
        shop.app.after_request(
            lambda response: (
                left.append((shop.session().in_transaction(), shop.session().info)) or response
            )
        )
        for _ in "ab":
            shop.post()
            shop.forget()
        assert left == [(False, {})] * 2
        with shop.app.app_context():
            assert shop.session.get_bind().pool.checkedout() == 0


@on_sqlite
class TestAsyncViews:
    def make_async(self, shop: WebShop) -> None:
        create = shop.app.view_functions["create"]

        async def view(product: str) -> Any:
            return create(product)

        shop.app.view_functions["create"] = view

    def test_flask_sqlalchemy(self, make_web_shop: MakeWebShop) -> None:
        """Flask-SQLAlchemy's session is the same in an async view."""
        shop = make_web_shop("flask-sqlalchemy")
        self.make_async(shop)
        assert [shop.post().text for _ in "ab"] == ["run 1", "run 1"]
        assert (shop.products(), shop.count_answers()) == (["mug"], 1)

    def test_thread_local(self, make_web_shop: MakeWebShop) -> None:
        """A thread's own session would be another one: the view fails, and says why."""
        shop = make_web_shop()
        shop.app.testing = True
        self.make_async(shop)
        with pytest.raises(ValueError, match="scopefunc"):
            shop.post()
        assert (shop.products(), shop.count_answers()) == ([], 0)

    def test_scope(self, make_web_shop: MakeWebShop) -> None:
        """With the application context as its scope a plain session works too."""
        shop = make_web_shop(scopefunc=lambda: id(app_ctx._get_current_object()))  # type: ignore[attr-defined]
        self.make_async(shop)
        assert shop.post().text == "run 1"
        assert (shop.products(), shop.count_answers()) == (["mug"], 1)
