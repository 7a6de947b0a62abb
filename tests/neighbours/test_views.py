"""Class-based and async views."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import wraps
from itertools import count
from typing import Any, ClassVar

import pytest
from flask import Flask, request
from flask.views import MethodView, View

from flask_idempotent import idempotent
from tests.neighbours.client import send, summary
from tests.support.clients import WayIn, problem

EVERY_REQUEST = pytest.mark.parametrize("every_request", [True, False])


@EVERY_REQUEST
def test_view_class(way: WayIn, every_request: bool) -> None:
    """A ``View`` runs once, whether it is made for every request or once."""
    app, runs = way.app(), count(1)

    class Orders(View):
        methods: ClassVar = ["POST"]
        decorators: ClassVar = [way]
        init_every_request = every_request

        def __init__(self, word: str) -> None:
            self.word = word

        def dispatch_request(self, number: int) -> str:
            return f"{self.word} {number}, run {next(runs)}"

    app.add_url_rule("/<int:number>", view_func=Orders.as_view("orders", "order"))
    client = app.test_client()
    assert [summary(send(client, "/7")) for _ in range(2)] == [
        (200, "order 7, run 1", False),
        (200, "order 7, run 1", True),
    ]


@EVERY_REQUEST
def test_f5_methods_of_a_class(way: WayIn, every_request: bool) -> None:
    """F5: each method of a ``MethodView`` is another operation; GET runs without a key."""
    app, runs = way.app(), count(1)

    class Orders(MethodView):
        decorators: ClassVar = [way]
        init_every_request = every_request

        def post(self) -> str:
            return f"post {next(runs)}"

        def put(self) -> str:
            return f"put {next(runs)}"

        def get(self) -> str:
            return f"get {next(runs)}"

    app.add_url_rule("/", view_func=Orders.as_view("orders"))
    client = app.test_client()
    assert [summary(send(client)) for _ in range(2)] == [
        (200, "post 1", False),
        (200, "post 1", True),
    ]
    assert problem(send(client, method="PUT")) == (422, "key-reused")
    assert summary(send(client, method="PUT", key="b")) == (200, "put 2", False)
    assert [client.get("/").text for _ in range(2)] == ["get 3", "get 4"]


@pytest.mark.parametrize("wide", [True, False])
def test_one_method_of_a_class(make_app: Callable[..., Flask], wide: bool) -> None:
    """A decorator on one method has its own settings and leaves the others alone."""
    app, runs = make_app(wide=wide), count(1)

    class Orders(MethodView):
        @idempotent(required=True, ignore_fields=("at",))
        def post(self) -> str:
            return f"post {next(runs)}"

        @idempotent.exempt
        def put(self) -> str:
            return f"put {next(runs)}"

    app.add_url_rule("/", view_func=Orders.as_view("orders"))
    client = app.test_client()
    assert problem(send(client, key=None)) == (400, "key-missing")
    assert [send(client, data={"at": at}).text for at in "12"] == ["post 1", "post 1"]
    assert [send(client, method="PUT").text for _ in range(2)] == ["put 2", "put 3"]


@pytest.mark.parametrize("name", ["decorated", "both"])
def test_other_decorators_of_a_class(make_app: Callable[..., Flask], name: str) -> None:
    """What stands behind ``idempotent`` in ``decorators`` is outside: it runs on replays too."""
    app, runs, checks = WayIn(name, make_app).app(), count(1), []

    def check(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def checked(**arguments: Any) -> Any:
            checks.append(request.path)
            return view(**arguments)

        return checked

    class Orders(MethodView):
        decorators: ClassVar = [idempotent, check]

        def post(self) -> str:
            return f"run {next(runs)}"

    app.add_url_rule("/", view_func=Orders.as_view("orders"))
    client = app.test_client()
    assert [send(client).text for _ in range(2)] == ["run 1", "run 1"]
    assert len(checks) == 2


def test_async_view(way: WayIn) -> None:
    """An async view that awaits runs once, and a stored error of it is replayed."""
    app, runs = way.app(), count(1)

    @app.post("/<name>")
    @way
    async def view(name: str) -> tuple[str, int]:
        await asyncio.sleep(0)
        return f"{name} {next(runs)} {request.path}", 201

    client = app.test_client()
    expected = (201, "mug 1 /mug")
    assert [summary(send(client, "/mug")) for _ in range(2)] == [
        (*expected, False),
        (*expected, True),
    ]


def test_async_view_that_fails(way: WayIn) -> None:
    """C4: an async view that raises is not stored, and its key runs again."""
    app, runs = way.app(), count(1)

    @app.post("/")
    @way
    async def view() -> str:
        await asyncio.sleep(0)
        if next(runs) == 1:
            raise LookupError
        return "run 2"

    client = app.test_client()
    assert send(client).status_code == 500
    assert summary(send(client)) == (200, "run 2", False)


def test_async_class(way: WayIn) -> None:
    """Async methods of a class run once."""
    app, runs = way.app(), count(1)

    class Orders(MethodView):
        decorators: ClassVar = [way]

        async def post(self) -> str:
            await asyncio.sleep(0)
            return f"run {next(runs)}"

    app.add_url_rule("/", view_func=Orders.as_view("orders"))
    client = app.test_client()
    assert [summary(send(client)) for _ in range(2)] == [
        (200, "run 1", False),
        (200, "run 1", True),
    ]
