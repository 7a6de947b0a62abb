"""A shop of flask-restx or Flask-RESTful, and the places where a resource is decorated."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import flask_restful
import flask_restful.fields
import flask_restx
import pytest
from flask import Flask, Response, make_response

from flask_idempotent import idempotent
from tests.conftest import MakeApp

OWN = "application/x-own"
DECORATOR = idempotent(expire=99)


@pytest.fixture(params=[flask_restx, flask_restful], ids=["flask-restx", "flask-restful"])
def rest(request: pytest.FixtureRequest) -> Any:
    """Each of the two libraries in turn."""
    return request.param


def shop(app: Flask, resource: type, rest: Any, **options: Any) -> Any:
    """Serve a resource from an Api with its own representation."""
    api = rest.Api(app, **options)

    @api.representation(OWN)
    def write(data: Any, code: int, headers: Any = None) -> Response:
        response = make_response(f"own {json.dumps(data)}", code)
        response.headers.extend(headers or {})
        return response

    api.add_resource(resource, "/")
    return api


def orders(rest: Any, **members: Any) -> type:
    """A resource that says the number of its run, on POST."""
    runs = count(1)

    def post(self: object) -> Any:
        return {"run": next(runs), "secret": "cost price"}, 201, {"X-Order": "7"}

    return type("Orders", (rest.Resource,), {"post": post, **members})


def on_method(rest: Any) -> type:
    resource: Any = orders(rest)
    resource.post = DECORATOR(resource.post)
    return resource


#: Every way to decorate a resource.
PLACES: dict[str, Callable[[Any], type]] = {
    "method": on_method,
    "method_decorators": lambda rest: orders(rest, method_decorators=[DECORATOR]),
    "bare method_decorators": lambda rest: orders(rest, method_decorators=[idempotent]),
    "decorators": lambda rest: orders(rest, decorators=[DECORATOR]),
}


@pytest.fixture(params=[*PLACES, "Api"])
def place(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=[False, True], ids=["decorated", "both"])
def app(request: pytest.FixtureRequest, make_app: MakeApp, rest: Any, place: str) -> Flask:
    """An application with one resource, protected in each way, with and without the extension."""
    app = make_app(wide=request.param)
    if place == "Api":
        shop(app, orders(rest), rest, decorators=[DECORATOR])
    else:
        shop(app, PLACES[place](rest), rest)
    return app
