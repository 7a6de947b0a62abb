"""flask-smorest: schemas go in above ``@idempotent`` and out below it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import marshmallow as ma
import pytest
from flask import Flask
from flask.views import MethodView
from flask_smorest import Api, Blueprint, abort

from flask_idempotent import idempotent
from flask_idempotent.problems import Problem
from tests.neighbours.client import replayed, send
from tests.support.clients import WayIn, problem
from tests.support.faulty_store import FaultyStore

DOCUMENT = {"API_TITLE": "Shop", "API_VERSION": "1", "OPENAPI_VERSION": "3.0.3"}
Register = Callable[[Flask, Callable[..., None]], None]


class OrderIn(ma.Schema):
    """What a client sends."""

    product = ma.fields.String(required=True)


class OrderOut(ma.Schema):
    """What a client may see."""

    run = ma.fields.Integer()
    product = ma.fields.String()


def served(app: Flask, blueprint: Blueprint) -> Api:
    api = Api(app)
    api.register_blueprint(blueprint)
    return api


def order(runs: count[int], product: str) -> dict[str, Any]:
    if product == "gone":
        abort(410, message=f"run {next(runs)}")
    return {"run": next(runs), "product": product, "secret": "cost price"}


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
    """C2: the replay is what the schema made of the view's value, octet for octet."""
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
    """The OpenAPI document tells of a protected operation what its schemas say."""
    app, api = shape(way)
    with app.app_context():
        document = api.spec.to_dict()
    operation = document["paths"]["/"]["post"]
    assert list(document["paths"]) == ["/"]
    assert "requestBody" in operation
    assert {"201", "422"} <= set(operation["responses"])
    assert set(document["components"]["schemas"]) >= {"OrderIn", "OrderOut"}


def etagged(make_app: Callable[..., Flask], order: str, **overrides: Any) -> Flask:
    """An order with an ETag; ``etag`` is above ``@idempotent``, below it, or on the class."""
    app = make_app(wide=False, config=DOCUMENT)
    blueprint, stored = Blueprint("orders", "orders"), {"product": "mug"}

    def both(method: Any) -> Any:
        protect = idempotent(**overrides)
        return protect(blueprint.etag(method)) if order == "below" else protect(method)

    def outermost(target: Any) -> Any:
        return blueprint.etag(target) if order == "above" else target

    class Order(MethodView):
        @outermost
        @both
        @blueprint.response(200, OrderOut)
        def get(self) -> dict[str, str]:
            return stored

        @outermost
        @both
        @blueprint.response(201, OrderOut)
        def post(self) -> dict[str, str]:
            return {"product": "new"}

        @outermost
        @both
        @blueprint.arguments(OrderIn)
        @blueprint.response(200, OrderOut)
        def put(self, arguments: dict[str, str]) -> dict[str, str]:
            blueprint.check_etag(stored, OrderOut)
            if arguments["product"] == "gone":
                abort(410)
            stored.update(arguments)
            return stored

        @outermost
        @both
        @blueprint.response(204)
        def delete(self) -> None:
            blueprint.check_etag(stored, OrderOut)
            stored["product"] = "deleted"

        @outermost
        @both
        @blueprint.response(200, OrderOut)
        def patch(self) -> dict[str, str]:
            blueprint.check_etag(stored, OrderOut)
            blueprint.set_etag({"of": "another"})
            return stored

    blueprint.route("/")(blueprint.etag(Order) if order == "class" else Order)
    served(app, blueprint)
    return app


class TestEtag:
    """``@blp.etag`` stands above ``@idempotent``, below it, or on the class, with one result."""

    @pytest.fixture(params=["above", "below", "class"])
    def app(self, request: pytest.FixtureRequest, make_app: Callable[..., Flask]) -> Flask:
        return etagged(make_app, request.param)

    def matching(self, app: Flask) -> dict[str, str]:
        return {"If-Match": app.test_client().get("/").headers["ETag"]}

    def test_c6_precondition(self, app: Flask) -> None:
        """C6: a retry of a PUT whose If-Match is spent gets its first answer, not 412."""
        options = {"method": "PUT", "json": {"product": "tea"}, "headers": self.matching(app)}
        client = app.test_client()
        answers = [send(client, key=key, **options) for key in ("a", "a", "b", "b")]
        assert [answer.status_code for answer in answers] == [200, 200, 412, 412]
        assert [replayed(answer) for answer in answers] == [False, True, False, True]
        first, retry, late, again = answers
        assert retry.headers["ETag"] == first.headers["ETag"]
        assert retry.data == first.data
        assert "ETag" not in late.headers
        assert "ETag" not in again.headers
        assert again.data == late.data

    def test_equal_to_an_answer_without_key(self, app: Flask) -> None:
        """A first answer and its replay have the ETag of an answer without a key."""
        client = app.test_client()
        answers = [send(client, key=key) for key in (None, "a", "a")]
        assert len({answer.headers["ETag"] for answer in answers}) == 1
        assert [replayed(answer) for answer in answers] == [False, False, True]

    @pytest.mark.parametrize(
        ("method", "status"), [("DELETE", 204), ("PATCH", 200)], ids=["no-etag", "etag-of-the-view"]
    )
    def test_other_methods(self, app: Flask, method: str, status: int) -> None:
        """A DELETE has no ETag, and a view may set one itself: replays are equal to both."""
        options = {"method": method, "headers": self.matching(app)}
        first, retry = (send(app.test_client(), **options) for _ in range(2))
        assert (first.status_code, retry.status_code, replayed(retry)) == (status, status, True)
        assert retry.headers.get("ETag") == first.headers.get("ETag")

    def test_aborted(self, app: Flask) -> None:
        """C2: what the view aborts with is worded by flask-smorest, stored, and has no ETag."""
        options = {"method": "PUT", "json": {"product": "gone"}, "headers": self.matching(app)}
        first, retry = (send(app.test_client(), **options) for _ in range(2))
        assert first.json == {"code": 410, "status": "Gone"}
        assert (retry.status_code, retry.data, replayed(retry)) == (410, first.data, True)
        assert "ETag" not in first.headers
        assert "ETag" not in retry.headers

    def test_without_precondition(self, app: Flask) -> None:
        """A request without If-Match is flask-smorest's to refuse, with a key and without."""
        for key in (None, "a"):
            answer = send(app.test_client(), method="PUT", key=key, json={"product": "tea"})
            assert answer.status_code == 428

    def test_not_modified(self, app: Flask) -> None:
        """A GET that names the ETag is answered 304, as ever."""
        etag = app.test_client().get("/").headers["ETag"]
        answer = app.test_client().get("/", headers={"If-None-Match": etag})
        assert answer.status_code == 304

    @pytest.mark.parametrize("order", ["above", "below", "class"])
    def test_dropped(self, make_app: Callable[..., Flask], order: str) -> None:
        """An application that drops the ETag from its replays gets replays all the same."""
        app = etagged(make_app, order, drop_headers=["ETag"])
        first, retry = (send(app.test_client()) for _ in range(2))
        assert replayed(retry)
        assert (retry.status_code, retry.data) == (201, first.data)
