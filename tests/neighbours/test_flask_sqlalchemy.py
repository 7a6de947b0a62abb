"""Flask-SQLAlchemy: a session for each request, replays too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from werkzeug.test import TestResponse

from flask_idempotent import signals
from tests.neighbours.client import send, summary
from tests.support.clients import Gate, WayIn, post


class Base(DeclarativeBase):
    """The models' base."""


db = SQLAlchemy(model_class=Base)


class Order(db.Model):
    """An order; a product is sold once."""

    id: Mapped[int] = mapped_column(primary_key=True)
    product: Mapped[str] = mapped_column(String, unique=True)


@pytest.fixture
def app(way: WayIn, tmp_path: Path) -> Iterator[Flask]:
    """An application that touches its database before and in each view."""
    app = way.app(config={"SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/shop.db"})
    db.init_app(app)

    @app.before_request
    def look() -> None:
        # A connection is checked out from here on, replays and problems included.
        db.session.execute(db.select(Order)).all()

    @app.post("/orders/<product>")
    @way
    def create(product: str) -> str:
        order = Order(product=product)
        db.session.add(order)
        db.session.commit()
        return f"order {order.id}"

    @app.post("/unsaved/<product>")
    @way
    def forget(product: str) -> str:
        db.session.add(Order(product=product))
        db.session.flush()
        return "not committed"

    app.get("/count")(lambda: str(db.session.query(Order).count()))
    with app.app_context():
        db.create_all()
    yield app
    with app.app_context():
        db.engine.dispose()


def checked_out(app: Flask) -> int:
    with app.app_context():
        pool = db.engine.pool
        return int(pool.checkedout())


class TestPool:
    """C10: duplicates that wait hold no connection that the owner may need."""

    @pytest.fixture
    def crowded(self, way: WayIn, tmp_path: Path) -> Iterator[Flask]:
        """An application that takes a connection before each view, of which there are two."""
        app = way.app(
            config={
                "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/shop.db",
                "SQLALCHEMY_ENGINE_OPTIONS": {
                    "pool_size": 2, "max_overflow": 0, "pool_timeout": 1,
                },
            }
        )  # fmt: skip
        db.init_app(app)
        with app.app_context():
            db.create_all()
        yield app
        with app.app_context():
            db.engine.dispose()

    def ordering_at_a_gate(self, app: Flask, way: WayIn) -> Gate:
        gate = Gate()

        @app.before_request
        def look() -> None:
            db.session.execute(db.select(Order)).all()

        @app.post("/orders/<product>")
        @way
        def create(product: str) -> str:
            db.session.rollback()  # The view's first transaction ends, and gives its one back.
            gate()
            order = Order(product=product)
            db.session.add(order)
            db.session.commit()
            return f"order {order.id}"

        return gate

    @pytest.mark.parametrize("gives_back", [True, False])
    def test_c10_four_duplicates(
        self,
        crowded: Flask,
        way: WayIn,
        background: Callable[..., Future[TestResponse]],
        gives_back: bool,
    ) -> None:
        """With ``before_wait`` one of five runs and none fails; without, the owner is starved."""
        app, gate = crowded, self.ordering_at_a_gate(crowded, way)
        waiting = threading.Semaphore(0)

        def return_connection(sender: object, **_: object) -> None:
            if gives_back:
                db.session.rollback()
            waiting.release()

        with signals.before_wait.connected_to(return_connection, app):
            owner = background(post, app, path="/orders/mug")
            gate.reached()
            duplicates = [background(post, app, path="/orders/mug") for _ in range(4)]
            for _ in range(4 if gives_back else 2):
                assert waiting.acquire(timeout=5)
            gate.open()
            answers = [owner.result(), *(duplicate.result() for duplicate in duplicates)]
        statuses = {answer.status_code for answer in answers}
        if not gives_back:
            assert 500 in statuses
            return
        assert statuses == {200}
        assert {answer.text for answer in answers} == {"order 1"}
        assert checked_out(app) == 0


def test_session_ends_with_each_answer(app: Flask) -> None:
    """First answers, replays and problems give their connection back."""
    client = app.test_client()
    assert summary(send(client, "/orders/mug")) == (200, "order 1", False)
    assert checked_out(app) == 0
    assert summary(send(client, "/orders/mug")) == (200, "order 1", True)
    assert checked_out(app) == 0
    assert send(client, "/orders/teapot").status_code == 422
    assert checked_out(app) == 0
    assert client.get("/count").text == "1"


def test_uncommitted_work_is_rolled_back(app: Flask) -> None:
    """What a view did not commit is gone, whatever a replay of it says."""
    client = app.test_client()
    assert [summary(send(client, "/unsaved/mug"))[2] for _ in range(2)] == [False, True]
    assert client.get("/count").text == "0"


def test_failed_commit_leaves_the_key_new(app: Flask) -> None:
    """C4: a view that fails in its transaction is not stored, and its key runs again."""
    client = app.test_client()
    send(client, "/orders/mug", key="first")
    for _ in range(2):
        assert send(client, "/orders/mug", key="second").status_code == 500
        assert checked_out(app) == 0


def test_c2_handled_database_error(app: Flask) -> None:
    """C2: what the application makes of a database error is the view's answer, and is stored."""

    @app.errorhandler(IntegrityError)
    def taken(error: IntegrityError) -> tuple[str, int]:
        db.session.rollback()
        return "taken", 409

    client = app.test_client()
    send(client, "/orders/mug", key="first")
    answers = [summary(send(client, "/orders/mug", key="second")) for _ in range(2)]
    assert answers == [(409, "taken", False), (409, "taken", True)]
    assert checked_out(app) == 0
