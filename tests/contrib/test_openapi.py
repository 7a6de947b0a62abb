"""OpenAPI: what a document says about protected operations, whatever writes it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import marshmallow as ma
import pytest
from apiflask import APIFlask
from apispec import APISpec
from flask import Flask
from flask_smorest import Api, Blueprint
from openapi_spec_validator import validate

from flask_idempotent import Idempotent, SettingsError, idempotent, problems
from flask_idempotent.contrib.apispec import IdempotentPlugin
from flask_idempotent.contrib.openapi import describe
from tests.conftest import MakeApp
from tests.support.clients import post

PROBLEM = "application/problem+json"
SMOREST = {"API_TITLE": "Shop", "API_VERSION": "1", "OPENAPI_VERSION": "3.0.3"}


class OrderIn(ma.Schema):
    """What a client sends."""

    product = ma.fields.String(required=True)


class OrderOut(ma.Schema):
    """What a client gets."""

    number = ma.fields.Integer()


def document(version: str = "3.1.0", **operations: Any) -> dict[str, Any]:
    """A small document with operations on /orders."""
    paths = {"/orders": operations or {"post": {"responses": {"201": {"description": "Made"}}}}}
    return {"openapi": version, "info": {"title": "Shop", "version": "1"}, "paths": paths}


def shop(app: Flask, *methods: str, **overrides: Any) -> Flask:
    view = idempotent(**overrides)(lambda: ("made", 201))
    app.add_url_rule("/orders", "orders", view, methods=list(methods) or ["POST"])
    return app


def described(app: Flask, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """The document with what is added to it, which is valid."""
    after = describe(before or document(), app)
    validate(after)
    return after


def operation(after: dict[str, Any], method: str = "post") -> dict[str, Any]:
    found: dict[str, Any] = after["paths"]["/orders"][method]
    return found


def header(found: dict[str, Any]) -> dict[str, Any]:
    (parameter,) = (p for p in found["parameters"] if p["in"] == "header")
    assert isinstance(parameter, dict)
    return parameter


@pytest.fixture(name="app")
def _app(make_app: MakeApp) -> Flask:
    return make_app(wide=False)


class TestDescribe:
    @pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
    def test_operation(self, app: Flask, version: str) -> None:
        """A protected operation has the key's header, the replay's, and every problem."""
        found = operation(described(shop(app, required=True, on_crash="hold"), document(version)))
        assert header(found)["name"] == "Idempotency-Key"
        assert header(found)["required"] is True
        assert found["responses"]["201"]["headers"] == {
            "Idempotent-Replayed": {"$ref": "#/components/headers/IdempotentReplayed"}
        }
        for kind in problems.ALL:
            response = found["responses"][str(kind.code)]
            assert (
                f"`urn:flask-idempotent:problem:{kind.slug}`: {kind.__doc__}"
                in (response["description"])
            )
            assert list(response["content"]) == [PROBLEM]
        for status, response in found["responses"].items():
            assert ("Retry-After" in response.get("headers", {})) == (status in ("409", "503"))

    def test_busy_status(self, app: Flask) -> None:
        """``busy_status``: an operation has "in-progress" under the status of its own view."""
        responses = operation(described(shop(app, busy_status=425)))["responses"]
        meant = [status for status in responses if "in-progress" in str(responses[status])]
        assert meant == ["425"]
        assert "Retry-After" in responses["425"]["headers"]

    @pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
    def test_e1_problems_obey_the_schema(self, app: Flask, version: str) -> None:
        """E1: a problem that is sent, with a key and without, is one that the schema allows."""
        from openapi_schema_validator import OAS30Validator, OAS31Validator

        schema = described(shop(app, required=True), document(version))["components"]["schemas"]
        validator = OAS30Validator if version.startswith("3.0") else OAS31Validator
        first, reused = (post(app, path="/orders", data=data) for data in (b"one", b"two"))
        assert first.status_code == 201
        for answer in reused, post(app, path="/orders", key=None):
            validator(schema["IdempotencyProblem"]).validate(answer.get_json())

    def test_what_cannot_happen_is_not_told(self, app: Flask) -> None:
        """No missing key where none is required. The outcome may be unknown everywhere: a view
        that runs again may have a step with ``once``."""
        found = operation(described(shop(app)))
        assert header(found)["required"] is False
        assert "key-missing" not in found["responses"]["400"]["description"]
        assert "outcome-unknown" in found["responses"]["409"]["description"]

    def test_own_settings(self, make_app: MakeApp) -> None:
        """Header names, the problems' base and strict keys are the application's."""
        config = {
            "IDEMPOTENT_HEADERS": ("X-Key",),
            "IDEMPOTENT_REPLAY_HEADER": "X-Again",
            "IDEMPOTENT_PROBLEM_BASE": "https://shop.example/problems/",
            "IDEMPOTENT_STRICT_KEYS": True,
        }
        found = operation(described(shop(make_app(wide=False, config=config))))
        assert header(found)["name"] == "X-Key"
        assert "a quoted string" in header(found)["description"]
        assert list(found["responses"]["201"]["headers"]) == ["X-Again"]
        assert (
            "https://shop.example/problems/key-reused" in (found["responses"]["422"]["description"])
        )

    def test_what_it_says_already_stays(self, app: Flask) -> None:
        """Own words for the header and for a status are kept, and shared responses unchanged."""
        shared = {"description": "Wrong.", "content": {"application/json": {}}}
        own = {"in": "header", "name": "idempotency-key", "schema": {"type": "string"}}
        before = document(
            post={
                "parameters": [own],
                "responses": {
                    201: {"description": "Made"},
                    "422": {"$ref": "#/components/responses/Wrong"},
                    "503": {"description": "Our own", "content": {PROBLEM: {}}},
                },
            }
        )
        before["components"] = {"responses": {"Wrong": shared}}
        untouched = deepcopy(before)
        after = described(shop(app), before)
        assert before == untouched
        assert after["components"]["responses"]["Wrong"] == shared
        found = operation(after)
        assert header(found) == own
        assert found["responses"]["422"]["description"].startswith("Wrong. Or: `urn:")
        assert list(found["responses"]["422"]["content"]) == ["application/json", PROBLEM]
        assert found["responses"]["503"] == {"description": "Our own", "content": {PROBLEM: {}}}

    @pytest.mark.parametrize("where", ["the operation", "the path"])
    def test_a_shared_parameter_stays(self, app: Flask, where: str) -> None:
        """A header that operations share, or that a path has for all of its own, stays alone."""
        own = {"in": "header", "name": "Idempotency-Key", "schema": {"type": "string"}}
        before = document()
        before["components"] = {"parameters": {"Key": own}}
        path = before["paths"]["/orders"]
        place = path["post"] if where == "the operation" else path
        place["parameters"] = [{"$ref": "#/components/parameters/Key"}]
        after = described(shop(app), before)
        assert after["components"]["parameters"] == {"Key": own}
        found = [*after["paths"]["/orders"].get("parameters", ()),
                 *operation(after).get("parameters", ())]  # fmt: skip
        assert found == [{"$ref": "#/components/parameters/Key"}]

    def test_a_reference_to_nothing(self, app: Flask) -> None:
        """What a document refers to and lacks is its author's affair, and stays as it is."""
        lost = {"$ref": "#/components/parameters/Lost"}
        before = document(post={"parameters": [lost], "responses": {}})
        found = operation(describe(before, shop(app)))["parameters"]
        assert found[0] == lost
        assert header({"parameters": found[1:]})["name"] == "Idempotency-Key"

    def test_twice(self, app: Flask) -> None:
        """What is described already is not described again."""
        once = described(shop(app))
        assert described(app, once) == once

    def test_unprotected(self, app: Flask) -> None:
        """A document without protected operations stays as it is."""
        app.add_url_rule("/orders", view_func=lambda: "", methods=["POST"])
        assert described(app) == document()

    def test_reading(self, make_app: MakeApp) -> None:
        """W1, W5: a GET is described only where it is tracked, and is not refused for its key."""
        responses = {"responses": {"200": {"description": "Here"}}}
        before = document(get=responses, put=responses)
        after = described(shop(make_app(), "GET", "PUT"), before)
        assert operation(after, "get") == responses
        assert "409" in operation(after, "put")["responses"]
        methods = {"methods": ("GET",)}
        after = described(shop(make_app(wide=False), "GET", **methods), before)
        assert {"409", "503"} <= set(operation(after, "get")["responses"])
        assert "422" not in operation(after, "get")["responses"]
        assert "key-invalid" not in operation(after, "get")["responses"]["400"]["description"]
        after = described(shop(make_app(wide=False), "GET", required=True, **methods), before)
        assert "key-invalid" in operation(after, "get")["responses"]["400"]["description"]

    def test_key_of_its_own(self, app: Flask) -> None:
        """Where a function finds the key, no header is promised."""
        found = operation(described(shop(app, key=lambda request: "k")))
        assert "parameters" not in found
        assert "422" in found["responses"]

    def test_path_parameters(self, app: Flask) -> None:
        """A rule's converters, with arguments too, are found under OpenAPI's name of the path."""
        rule = "/<any('a:b', c):kind>/<int(max=9):number>/<name>"
        app.add_url_rule(rule, "view", idempotent(lambda **_: ""), methods=["POST"])
        path = [{"in": "path", "name": n, "required": True, "schema": {"type": "string"}}
                for n in ("kind", "number", "name")]  # fmt: skip
        before = document()
        before["paths"] = {
            "/{kind}/{number}/{name}": {"post": {"parameters": path, "responses": {}}}
        }
        after = described(app, before)
        assert "409" in after["paths"]["/{kind}/{number}/{name}"]["post"]["responses"]

    def test_another_version(self, app: Flask) -> None:
        """A document that is not OpenAPI 3 is a clear error."""
        with pytest.raises(SettingsError, match=r"an OpenAPI 3 document, not version 2\.0"):
            describe({"swagger": "2.0"}, app)


class TestPlugin:
    def test_apispec(self, app: Flask) -> None:
        """A specification of apispec describes the application that its plugin is given."""
        spec = APISpec("Shop", "1", "3.0.3", plugins=[IdempotentPlugin(app)])
        spec.path("/orders", operations={"post": {"responses": {201: {"description": "Made"}}}})
        shop(app)
        after = spec.to_dict()
        validate(after)
        assert header(operation(after))["name"] == "Idempotency-Key"
        assert spec.to_dict() == after

    def test_flask_smorest(self, make_app: MakeApp) -> None:
        """flask-smorest serves a document with schemas and problems side by side."""
        app = make_app(wide=False, config={**SMOREST, "OPENAPI_URL_PREFIX": "/"})
        blueprint = Blueprint("orders", "orders")

        @blueprint.post("/orders")
        @blueprint.arguments(OrderIn)
        @idempotent
        @blueprint.response(201, OrderOut)
        def create(order: dict[str, str]) -> dict[str, int]:
            return {"number": 7}

        api = Api(app, spec_kwargs={"extra_plugins": [IdempotentPlugin()]})
        api.register_blueprint(blueprint)
        after = app.test_client().get("/openapi.json").json
        validate(after)
        found = operation(after)
        assert set(found["responses"]) >= {"201", "400", "409", "422", "503"}
        assert set(found["responses"]["422"]["content"]) == {"application/json", PROBLEM}
        assert "Idempotent-Replayed" in found["responses"]["201"]["headers"]

    def test_the_extension_may_follow(self, make_app: MakeApp) -> None:
        """What is protected is looked up when the document is written."""
        app = make_app(wide=False)
        spec = APISpec("Shop", "1", "3.1.0", plugins=[IdempotentPlugin()])
        spec.path("/orders", operations={"post": {"responses": {}}})
        app.add_url_rule("/orders", view_func=lambda: "", methods=["POST"])
        Idempotent(app)
        with app.app_context():
            assert "409" in operation(spec.to_dict())["responses"]


class TestAPIFlask:
    def test_spec_processor(self) -> None:
        """APIFlask hands its document over, and serves what comes back."""
        app = APIFlask("tests")
        app.config["REDIS_URL"] = "memory://"
        app.spec_processor(describe)

        @app.post("/orders")
        @app.input(OrderIn)
        @idempotent(required=True)
        @app.output(OrderOut, status_code=201)
        def create(json_data: dict[str, str]) -> dict[str, int]:
            return {"number": 7}

        after = app.test_client().get("/openapi.json").json
        validate(after)
        found = operation(after)
        assert header(found)["required"] is True
        assert set(found["responses"]["422"]["content"]) == {"application/json", PROBLEM}
