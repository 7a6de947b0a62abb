"""flask-smorest: schemas go in above ``@idempotent`` and out below it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from flask import Flask
from flask.views import MethodView
from flask_smorest import Api, Blueprint

from flask_idempotent import idempotent
from flask_idempotent.problems import Problem
from tests.neighbours.client import replayed, send
from tests.neighbours.smorest import DOCUMENT, OrderIn, OrderOut, order, served
from tests.support.clients import WayIn, problem
from tests.support.faulty_store import FaultyStore


def functional(way: WayIn, **options: Any) -> tuple[Flask, Api]:
    """Validation above the check, serialisation below it."""
    app, runs = way.app(config=DOCUMENT, **options), count(1)
    blueprint = Blueprint("orders", "orders")

    @blueprint.post("/")
    @blueprint.arguments(OrderIn)
    @way
    @blueprint.response(201, OrderOut)
    def create(arguments: dict[str, str]) -> dict[str, Any]:
        return order(runs, arguments["product"])

    return app, served(app, blueprint)


def class_based(way: WayIn, **options: Any) -> tuple[Flask, Api]:
    """The same as a class."""
    app, runs = way.app(config=DOCUMENT, **options), count(1)
    blueprint = Blueprint("orders", "orders")

    @blueprint.route("/")
    class Orders(MethodView):
        @blueprint.arguments(OrderIn)
        @way
        @blueprint.response(201, OrderOut)
        def post(self, arguments: dict[str, str]) -> dict[str, Any]:
            return order(runs, arguments["product"])

    return app, served(app, blueprint)


SHAPES = pytest.mark.parametrize("shape", [functional, class_based])


@SHAPES
def test_c2_replay_is_equal(way: WayIn, shape: Callable[..., tuple[Flask, Api]]) -> None:
    """C2: the replay is what the schema made of the view's value, byte for byte."""
    client = shape(way)[0].test_client()
    first, retry = (send(client, json={"product": "mug"}) for _ in range(2))
    assert first.json == {"run": 1, "product": "mug"}
    assert (retry.status_code, retry.data, retry.mimetype) == (
        201,
        first.data,
        "application/json",
    )
    assert (replayed(first), replayed(retry)) == (False, True)


@SHAPES
def test_c2_error_of_the_view(way: WayIn, shape: Callable[..., tuple[Flask, Api]]) -> None:
    """C2: what the view aborts with is stored as the API's error handler wrote it."""
    client = shape(way)[0].test_client()
    first, retry = (send(client, json={"product": "gone"}) for _ in range(2))
    assert first.json == {"code": 410, "message": "run 1", "status": "Gone"}
    assert (retry.status_code, retry.data, replayed(retry)) == (410, first.data, True)


@pytest.mark.parametrize("name", ["decorated", "both"])
@SHAPES
def test_c3_validation_above_never_claims(
    make_app: Callable[..., Flask], name: str, shape: Callable[..., tuple[Flask, Api]]
) -> None:
    """C3: a 422 of a schema above ``@idempotent`` claims nothing, so the key stays new."""
    store = FaultyStore()
    client = shape(WayIn(name, make_app), store=store)[0].test_client()
    assert [send(client, json={}).status_code for _ in range(2)] == [422, 422]
    assert store.calls == []
    assert send(client, json={"product": "mug"}).status_code == 201


def test_c4_validation_inside_is_stored(make_app: Callable[..., Flask]) -> None:
    """C4: app-wide, a schema's 422 is the view's answer: stored, until it is corrected."""
    client = functional(WayIn("app-wide", make_app))[0].test_client()
    first, retry = (send(client, json={}) for _ in range(2))
    assert first.json["errors"] == {"json": {"product": ["Missing data for required field."]}}
    assert (retry.status_code, retry.data, replayed(retry)) == (422, first.data, True)
    assert send(client, json={"product": "mug"}).status_code == 201
    other = send(client, json={"product": "cup"})
    assert (other.status_code, other.json["status"]) == (422, "Idempotency key reused")


def test_c4_validation_inside_with_store_if(make_app: Callable[..., Flask]) -> None:
    """C4: ``store_if`` says whether a 422 from inside spends the key."""
    way = WayIn("app-wide", make_app)
    options = {"store_if": lambda response: response.status_code != 422}
    client = functional(way, **options)[0].test_client()
    assert [send(client, json={}).status_code for _ in range(2)] == [422, 422]
    assert send(client, json={"product": "mug"}).json["run"] == 1


@pytest.mark.parametrize("key", [None, "key-one"])
@pytest.mark.parametrize("of_class", [False, True])
def test_schema_above_is_refused(
    make_app: Callable[..., Flask],
    key: str | None,
    of_class: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A response schema above ``@idempotent`` would let every field pass: an error says so.

    With a key and without one, so that it shows at the first try.
    """
    app = make_app(wide=False, config=DOCUMENT)
    blueprint = Blueprint("orders", "orders")

    @blueprint.response(201, OrderOut)
    @idempotent
    def create(*_: object) -> dict[str, Any]:
        return {"run": 1, "secret": "cost price"}

    if of_class:
        blueprint.route("/")(type("Orders", (MethodView,), {"post": create}))
    else:
        blueprint.post("/")(create)
    served(app, blueprint)
    answer = send(app.test_client(), key=key)
    assert (answer.status_code, answer.json["code"]) == (500, 500)
    assert "Put @idempotent above @response" in caplog.text


def test_e3_e7_own_handler_for_problems(way: WayIn) -> None:
    """E3, E7: flask-smorest words each HTTP error by itself; a handler for ours wins over that."""
    app, _ = functional(way)
    client = app.test_client()
    send(client, json={"product": "mug"})
    assert send(client, json={"product": "teapot"}).json == {
        "code": 422,
        "status": "Idempotency key reused",
    }
    app, _ = functional(way)
    app.register_error_handler(Problem, lambda problem: problem)
    client = app.test_client()
    send(client, json={"product": "mug"})
    answer = send(client, json={"product": "teapot"})
    assert problem(answer) == (422, "key-reused")
    assert answer.headers["Cache-Control"] == "no-store"


@SHAPES
def test_openapi(way: WayIn, shape: Callable[..., tuple[Flask, Api]]) -> None:
    """The OpenAPI document describes a protected operation by its schemas."""
    app, api = shape(way)
    with app.app_context():
        document = api.spec.to_dict()
    operation = document["paths"]["/"]["post"]
    assert list(document["paths"]) == ["/"]
    assert "requestBody" in operation
    assert {"201", "422"} <= set(operation["responses"])
    assert set(document["components"]["schemas"]) >= {"OrderIn", "OrderOut"}
