"""flask-smorest's ETags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.views import MethodView
from flask_smorest import Blueprint, abort

from flask_idempotent import idempotent
from tests.neighbours.client import replayed, send
from tests.neighbours.smorest import DOCUMENT, OrderIn, OrderOut, served


def etagged(make_app: Callable[..., Flask], order: str, **overrides: Any) -> Flask:
    """An order with an ETag; ``etag`` is above ``@idempotent``, below it, or on the class."""
    app, blueprint = make_app(wide=False, config=DOCUMENT), Blueprint("orders", "orders")
    view = order_view(blueprint, order, **overrides)
    blueprint.route("/")(blueprint.etag(view) if order == "class" else view)
    served(app, blueprint)
    return app


def order_view(blueprint: Blueprint, order: str, **overrides: Any) -> type[MethodView]:
    """The order's methods, each with the decorators in this order."""
    stored = {"product": "mug"}

    def decorated(method: Any) -> Any:
        protected = idempotent(**overrides)(blueprint.etag(method) if order == "below" else method)
        return blueprint.etag(protected) if order == "above" else protected

    class Order(MethodView):
        @decorated
        @blueprint.response(200, OrderOut)
        def get(self) -> dict[str, str]:
            return stored

        @decorated
        @blueprint.response(201, OrderOut)
        def post(self) -> dict[str, str]:
            return {"product": "new"}

        @decorated
        @blueprint.arguments(OrderIn)
        @blueprint.response(200, OrderOut)
        def put(self, arguments: dict[str, str]) -> dict[str, str]:
            blueprint.check_etag(stored, OrderOut)
            if arguments["product"] == "gone":
                abort(410)
            stored.update(arguments)
            return stored

        @decorated
        @blueprint.response(204)
        def delete(self) -> None:
            blueprint.check_etag(stored, OrderOut)
            stored["product"] = "deleted"

        @decorated
        @blueprint.response(200, OrderOut)
        def patch(self) -> dict[str, str]:
            blueprint.check_etag(stored, OrderOut)
            blueprint.set_etag({"of": "another"})
            return stored

    return Order


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
        """A GET that names the ETag is answered 304, as without the library."""
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
