"""Resources of flask-restx and Flask-RESTful: problems, validation, and the document."""

from __future__ import annotations

from typing import Any

import flask_restx
import pytest
from flask import Flask

from flask_idempotent import idempotent
from flask_idempotent.problems import KeyReused, Problem
from tests.conftest import MakeApp
from tests.neighbours.client import send
from tests.neighbours.resources.conftest import (
    DECORATOR,
    orders,
    shop,
)
from tests.support.clients import problem
from tests.support.faulty_store import FaultyStore


class TestProblems:
    def reuse(self, app: Flask, **headers: str) -> Any:
        send(app.test_client())
        return send(app.test_client(), json={"another": 1}, headers=headers)

    def test_e7_left_alone(self, make_app: MakeApp, rest: Any) -> None:
        """E7: an Api words each error by itself; status, text and ``Retry-After`` stay."""
        app = make_app(wide=False)
        shop(app, orders(rest, method_decorators=[DECORATOR]), rest)
        answer = self.reuse(app)
        assert answer.status_code == 422
        assert answer.json["message"].startswith("This idempotency key was used")
        assert answer.headers["Cache-Control"] == "no-store"

    @pytest.mark.parametrize("wide", [False, True])
    def test_e7_handed_on(self, make_app: MakeApp, rest: Any, wide: bool) -> None:
        """E7: an Api that hands our problems on answers with the problem document."""

        class Api(rest.Api):  # type: ignore[misc]
            def handle_error(self, e: Exception) -> Any:
                if isinstance(e, Problem):
                    raise e
                return super().handle_error(e)

        app = make_app(wide=wide)
        Api(app).add_resource(orders(rest, method_decorators=[DECORATOR]), "/")
        assert problem(self.reuse(app)) == (422, "key-reused")
        assert self.reuse(app, Accept="text/html").mimetype == "text/html"
        # The application's own handler wins, as without the library.
        app = make_app(wide=wide)
        app.register_error_handler(KeyReused, lambda error: ("words of its own", 400))
        Api(app).add_resource(orders(rest, method_decorators=[DECORATOR]), "/")
        assert self.reuse(app).text == "words of its own"

    def test_e7_handler_of_the_api(self, make_app: MakeApp) -> None:
        """E3, E7: a handler that flask-restx has for our problems wins, and may keep the type."""
        app = make_app(wide=False)
        api = shop(app, orders(flask_restx, method_decorators=[DECORATOR]), flask_restx)

        @api.errorhandler(Problem)
        def handle(error: Problem) -> Any:
            return error.as_dict(), error.code, dict(error.get_headers())

        answer = self.reuse(app)
        assert answer.json["type"] == "urn:flask-idempotent:problem:key-reused"
        assert answer.headers["Cache-Control"] == "no-store"


def test_validation_above_never_claims(make_app: MakeApp) -> None:
    """C3: what flask-restx refuses before the method claims nothing."""
    store = FaultyStore()
    app = make_app(store=store)
    api = flask_restx.Api(app)
    order = api.model("Order", {"product": flask_restx.fields.String(required=True)})

    class Orders(flask_restx.Resource):  # type: ignore[misc]
        @api.expect(order, validate=True)
        @idempotent
        def post(self) -> dict[str, str]:
            return api.payload

    api.add_resource(Orders, "/")
    client = app.test_client()
    assert [send(client, json={}).status_code for _ in range(2)] == [400, 400]
    assert store.calls == []
    assert send(client, json={"product": "mug"}).json == {"product": "mug"}


def test_openapi_of_restx(make_app: MakeApp) -> None:
    """The document of flask-restx describes a decorated method like one that is not decorated."""
    app = make_app()
    api = flask_restx.Api(app)

    class Orders(flask_restx.Resource):  # type: ignore[misc]
        @api.response(201, "Ordered")
        @idempotent
        def post(self) -> None:
            """Order something."""

    api.add_resource(Orders, "/orders")
    operation = app.test_client().get("/swagger.json").json["paths"]["/orders"]["post"]
    assert operation["summary"] == "Order something"
    assert "201" in operation["responses"]
