"""Flask-SQLAlchemy: a session for each request, replays too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.neighbours.client import send, told
from tests.web import WayIn


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


def test_session_ends_with_each_answer(app: Flask) -> None:
    """First answers, replays and problems give their connection back."""
    client = app.test_client()
    assert told(send(client, "/orders/mug")) == (200, "order 1", False)
    assert checked_out(app) == 0
    assert told(send(client, "/orders/mug")) == (200, "order 1", True)
    assert checked_out(app) == 0
    assert send(client, "/orders/teapot").status_code == 422
    assert checked_out(app) == 0
    assert client.get("/count").text == "1"


def test_uncommitted_work_is_rolled_back(app: Flask) -> None:
    """What a view did not commit is gone, whatever a replay of it says."""
    client = app.test_client()
    assert [told(send(client, "/unsaved/mug"))[2] for _ in range(2)] == [False, True]
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
    answers = [told(send(client, "/orders/mug", key="second")) for _ in range(2)]
    assert answers == [(409, "taken", False), (409, "taken", True)]
    assert checked_out(app) == 0
