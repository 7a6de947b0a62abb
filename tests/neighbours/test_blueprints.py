"""Blueprints with handlers and functions of their own."""

from __future__ import annotations

from itertools import count

import pytest
from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import UnprocessableEntity

from flask_idempotent.problems import KeyReused, Problem
from tests.neighbours.client import send, summary
from tests.support.clients import WayIn, problem


class OutOfStock(Exception):
    """An error of the shop's own."""


def shop(way: WayIn) -> tuple[Flask, Blueprint, Blueprint]:
    """An application, a blueprint and one nested in it; each view answers with its run."""
    app, runs = way.app(), count(1)
    outer, inner = Blueprint("outer", "outer"), Blueprint("inner", "inner")

    @inner.post("/orders")
    @way
    def create() -> str:
        if "empty" in request.args:
            raise OutOfStock(next(runs))
        return f"run {next(runs)} by {g.caller}"

    return app, outer, inner


def register(app: Flask, outer: Blueprint, inner: Blueprint) -> Flask:
    outer.register_blueprint(inner, url_prefix="/inner")
    app.register_blueprint(outer, url_prefix="/outer")
    return app


PATH = "/outer/inner/orders"


def test_before_and_after_each_answer(way: WayIn) -> None:
    """A blueprint's functions run before and after replays and problems, parents' first."""
    app, outer, inner = shop(way)
    calls: list[str] = []

    def note(name: str) -> None:
        calls.append(name)
        g.caller = name

    def sign(response: Response) -> Response:
        response.headers.add("X-Signed", "yes")
        return response

    app.before_request(lambda: note("app"))
    outer.before_request(lambda: note("outer"))
    inner.before_request(lambda: note("inner"))
    outer.after_request(sign)
    client = register(app, outer, inner).test_client()
    answers = [send(client, PATH, data=data) for data in (b"a", b"a", b"b")]
    assert [summary(answer)[:2] for answer in answers[:2]] == [(200, "run 1 by inner")] * 2
    assert answers[2].status_code == 422
    assert [answer.headers.getlist("X-Signed") for answer in answers] == [["yes"]] * 3
    assert calls == ["app", "outer", "inner"] * 3


def test_c3_refused_by_before_request(way: WayIn) -> None:
    """C3: what a parent's ``before_request`` answers is not stored and hides a replay."""
    app, outer, inner = shop(way)
    closed = [True, False, True]
    app.before_request(lambda: setattr(g, "caller", "app"))
    outer.before_request(lambda: ("closed", 503) if closed.pop(0) else None)
    client = register(app, outer, inner).test_client()
    assert [send(client, PATH).status_code for _ in range(3)] == [503, 200, 503]


@pytest.mark.parametrize("kind", [KeyReused, Problem, UnprocessableEntity, 422])
def test_e3_blueprints_own_handler(way: WayIn, kind: type[Exception] | int) -> None:
    """E3: a blueprint's handler for our error wins over the application's."""
    app, outer, inner = shop(way)
    app.before_request(lambda: setattr(g, "caller", "app"))
    app.register_error_handler(kind, lambda error: ("the application's", 422))
    inner.register_error_handler(kind, lambda error: ("the blueprint's", 422))
    client = register(app, outer, inner).test_client()
    send(client, PATH)
    assert summary(send(client, PATH, data=b"other")) == (422, "the blueprint's", False)


def test_e3_other_blueprints_handler(way: WayIn) -> None:
    """E3: a sibling's handler has no say, and the problem document goes out."""
    app, outer, inner = shop(way)
    app.before_request(lambda: setattr(g, "caller", "app"))
    sibling = Blueprint("sibling", "sibling")
    sibling.register_error_handler(422, lambda error: ("the sibling's", 422))
    app.register_blueprint(sibling, url_prefix="/sibling")
    client = register(app, outer, inner).test_client()
    send(client, PATH)
    assert problem(send(client, PATH, data=b"other")) == (422, "key-reused")


@pytest.mark.parametrize(("status", "replayed"), [(410, True), (503, False)])
def test_c4_blueprints_handler_makes_the_answer(way: WayIn, status: int, replayed: bool) -> None:
    """C4: what a blueprint's handler makes of an error is stored or not by its status."""
    app, outer, inner = shop(way)
    inner.register_error_handler(OutOfStock, lambda error: (f"none left, {error}", status))
    client = register(app, outer, inner).test_client()
    second = "none left, 1" if replayed else "none left, 2"
    assert summary(send(client, f"{PATH}?empty")) == (status, "none left, 1", False)
    assert summary(send(client, f"{PATH}?empty")) == (status, second, replayed)


def test_async_functions(way: WayIn) -> None:
    """Async functions around a view, and async error handlers, work as sync ones."""
    app, outer, inner = shop(way)

    @inner.before_request
    async def who() -> None:
        g.caller = "async"

    @inner.errorhandler(OutOfStock)
    async def none_left(error: OutOfStock) -> tuple[str, int]:
        return f"none left, {error}", 410

    client = register(app, outer, inner).test_client()
    for again in (False, True):
        assert summary(send(client, PATH)) == (200, "run 1 by async", again)
        assert summary(send(client, f"{PATH}?empty", key="b")) == (410, "none left, 2", again)
