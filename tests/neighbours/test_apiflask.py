"""APIFlask: a subclass of Flask with schemas for input and output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from apiflask import APIFlask, HTTPTokenAuth, Schema, abort
from apiflask.fields import Integer, String
from flask import Flask

from flask_idempotent import Idempotent, idempotent
from flask_idempotent.problems import Problem
from flask_idempotent.web.state import EXTENSION_KEY
from tests.neighbours.client import replayed, send
from tests.support.clients import WayIn, problem
from tests.support.faulty_store import FaultyStore


class OrderIn(Schema):
    """What a client sends."""

    product = String(required=True)


class OrderOut(Schema):
    """What a client may see."""

    run = Integer()
    product = String()


@pytest.fixture
def make_app() -> Iterator[Callable[..., Flask]]:
    """Makes an APIFlask application, and closes its engine when the test is over."""
    made: list[APIFlask] = []

    def make(
        *,
        wide: bool = True,
        store: object = None,
        config: object = None,
        json_errors: bool = True,
        **overrides: Any,
    ) -> APIFlask:
        app = APIFlask("tests", json_errors=json_errors)
        app.config.update(REDIS_URL="memory://")
        if wide:
            Idempotent(app, store=store, **overrides)
        made.append(app)
        return app

    yield make
    for app in made:
        if EXTENSION_KEY in app.extensions and app.extensions[EXTENSION_KEY].has_engine:
            app.extensions[EXTENSION_KEY].engine.close()


def shop(way: WayIn, **options: Any) -> Flask:
    """Validation above the check, serialisation below it."""
    app, runs = way.app(**options), count(1)

    @app.post("/")
    @app.input(OrderIn)
    @way
    @app.output(OrderOut, status_code=201)
    def create(json_data: dict[str, str]) -> dict[str, Any]:
        if json_data["product"] == "gone":
            abort(410, f"run {next(runs)}")
        return {"run": next(runs), "secret": "cost price", **json_data}

    return app


@pytest.mark.parametrize(("product", "status"), [("mug", 201), ("gone", 410)])
def test_c2_replay_is_equal(way: WayIn, product: str, status: int) -> None:
    """C2: the replay is what the schema or the error handler made, byte for byte."""
    client = shop(way).test_client()
    first, retry = (send(client, json={"product": product}) for _ in range(2))
    assert first.status_code == status
    assert "run" in first.text
    assert "secret" not in first.text
    assert (retry.status, retry.data) == (first.status, first.data)
    assert (replayed(first), replayed(retry)) == (False, True)


@pytest.mark.parametrize("name", ["decorated", "both"])
def test_c3_validation_above_never_claims(make_app: Callable[..., Flask], name: str) -> None:
    """C3: a 422 of an input schema above ``@idempotent`` claims nothing."""
    store = FaultyStore()
    client = shop(WayIn(name, make_app), store=store).test_client()
    assert [send(client, json={}).status_code for _ in range(2)] == [422, 422]
    assert store.calls == []
    assert send(client, json={"product": "mug"}).status_code == 201


def test_c4_validation_inside_is_stored(make_app: Callable[..., Flask]) -> None:
    """C4: app-wide, an input schema's 422 is the view's answer: stored, until it is corrected."""
    client = shop(WayIn("app-wide", make_app)).test_client()
    first, retry = (send(client, json={}) for _ in range(2))
    assert first.json["detail"] == {"json": {"product": ["Missing data for required field."]}}
    assert (retry.status_code, retry.data, replayed(retry)) == (422, first.data, True)
    assert send(client, json={"product": "mug"}).status_code == 201


@pytest.mark.parametrize("key", [None, "key-one"])
def test_schema_above_is_refused(
    make_app: Callable[..., Flask], key: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """An output schema above ``@idempotent`` would let every field pass: an error says so."""
    app = make_app(wide=False)

    @app.post("/")
    @app.output(OrderOut)
    @idempotent
    def create() -> dict[str, Any]:
        return {"run": 1, "secret": "cost price"}

    assert send(app.test_client(), key=key).status_code == 500
    assert "Put @idempotent above @output" in caplog.text


def test_e3_problems_are_the_applications_errors(way: WayIn) -> None:
    """E3: APIFlask words each HTTP error by itself; a handler for ours wins over that."""
    app = shop(way)
    client = app.test_client()
    send(client, json={"product": "mug"})
    answer = send(client, json={"product": "teapot"})
    assert answer.status_code == 422
    assert answer.json == {"message": "Idempotency key reused", "detail": {}}
    assert answer.headers["Cache-Control"] == "no-store"


def test_e3_e7_own_handler_for_problems(way: WayIn) -> None:
    """E3, E7: a handler for our problems wins over APIFlask's."""
    app = shop(way)
    app.register_error_handler(Problem, lambda problem: problem)
    client = app.test_client()
    send(client, json={"product": "mug"})
    assert problem(send(client, json={"product": "teapot"})) == (422, "key-reused")


def test_e1_problems_with_json_errors_off(make_app: Callable[..., Flask]) -> None:
    """E1: with ``json_errors=False`` clients get the problem document."""
    app = make_app(required=True, json_errors=False)
    app.post("/")(lambda: "run")
    assert problem(send(app.test_client(), key=None)) == (400, "key-missing")


def test_f6_auth_above(way: WayIn) -> None:
    """F6: behind ``auth_required`` a replay is for the token that made the request."""
    app, auth, runs = way.app(), HTTPTokenAuth(), count(1)
    auth.verify_token(lambda token: token if token in {"a", "b"} else None)

    @app.post("/")
    @app.auth_required(auth)
    @way
    def create() -> dict[str, int]:
        return {"run": next(runs)}

    client = app.test_client()

    def run(token: str) -> object:
        answer = send(client, headers={"Authorization": f"Bearer {token}"})
        return answer.json["run"] if answer.status_code == 200 else answer.status_code

    assert [run(token) for token in ("a", "b", "a", "stranger", "stranger")] == [1, 2, 1, 401, 401]


def test_openapi(way: WayIn) -> None:
    """The OpenAPI document describes a protected operation by its schemas."""
    document = shop(way).test_client().get("/openapi.json").json
    operation = document["paths"]["/"]["post"]
    assert list(document["paths"]) == ["/"]
    assert operation["requestBody"]["content"]
    assert {"201", "422"} <= set(operation["responses"])
    assert document.get("tags", []) == []
    assert set(document["components"]["schemas"]) >= {"OrderIn", "OrderOut"}


def test_async_view(way: WayIn) -> None:
    """An async view with schemas runs once."""
    app, runs = way.app(), count(1)

    @app.post("/")
    @app.input(OrderIn)
    @way
    @app.output(OrderOut)
    async def create(json_data: dict[str, str]) -> dict[str, Any]:
        return {"run": next(runs), **json_data}

    client = app.test_client()
    answers = [send(client, json={"product": "mug"}) for _ in range(2)]
    assert [answer.json for answer in answers] == [{"run": 1, "product": "mug"}] * 2


def test_class_based_view(way: WayIn) -> None:
    """A method of a class-based view is protected alone, with its schemas around it."""
    from apiflask.views import MethodView

    app, runs = way.app(), count(1)

    class Orders(MethodView):
        @app.input(OrderIn)
        @way
        @app.output(OrderOut)
        def post(self, json_data: dict[str, str]) -> dict[str, Any]:
            return {"run": next(runs), **json_data}

        @idempotent.exempt
        def put(self) -> dict[str, int]:
            return {"run": next(runs)}

    app.add_url_rule("/", view_func=Orders.as_view("orders"))
    client = app.test_client()
    answers = [send(client, json={"product": "mug"}) for _ in range(2)]
    assert [answer.json["run"] for answer in answers] == [1, 1]
    assert [send(client, method="PUT").json["run"] for _ in range(2)] == [2, 3]
