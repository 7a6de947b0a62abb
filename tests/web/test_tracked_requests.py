"""Which requests are tracked: methods, GET, routing errors, and views that require a key."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import Any

import pytest
from flask import (
    Flask,
    Response,
)
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from flask_idempotent.policy import policy_of
from tests.support.clients import Gate, WayIn, post, problem
from tests.support.faulty_store import FaultyStore
from tests.support.views import counting

Background = Callable[..., Future[TestResponse]]


class TestMethods:
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PURGE"])
    def test_w1_tracked(self, way: WayIn, method: str) -> None:
        """W1: every other method is tracked when it carries a key."""
        app = way.app()
        counting(app, way, methods=[method])
        assert [post(app, method=method).text for _ in range(2)] == ["run 1"] * 2

    @pytest.mark.parametrize("key", ["key-one", ",", ""])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
    def test_w1_untracked(self, way: WayIn, method: str, key: str) -> None:
        """W1: GET, HEAD, OPTIONS and TRACE run every time, whatever their key looks like."""
        store, runs = FaultyStore(), count(1)
        app = way.app(store=store, required=True)

        @way
        def view() -> Response:
            return Response(headers={"X-Run": str(next(runs))})

        app.add_url_rule("/", view_func=view, methods=[method], provide_automatic_options=False)
        answers = [post(app, key, method=method) for _ in range(2)]
        assert [answer.headers["X-Run"] for answer in answers] == ["1", "2"]
        assert store.calls == []

    def test_w1_narrowed(self, way: WayIn) -> None:
        """W1: a method left out of ``methods`` is served as if it carried no key."""
        app = way.app(methods=["post"], required=True)
        counting(app, way, methods=["POST", "PUT"])
        assert [post(app).text for _ in range(2)] == ["run 1"] * 2
        answers = [post(app, key, method="PUT") for key in ("key-one", ",", None)]
        assert [answer.text for answer in answers] == ["run 2", "run 3", "run 4"]


class TestGet:
    """GET, where ``methods`` names it."""

    def counting(self, way: WayIn, **overrides: Any) -> Flask:
        app = way.app(methods=("GET", "POST"), **overrides)
        counting(app, way, methods=["GET", "POST"])
        counting(app, way, "/other", methods=["GET"])
        return app

    def test_w1_widened(self, way: WayIn) -> None:
        """W1: a GET runs once for the key of its header."""
        app = self.counting(way)
        assert [post(app, method="GET").text for _ in range(2)] == ["run 1"] * 2

    def test_w1_key_of_a_link(self, way: WayIn) -> None:
        """W1: a person who makes another open a link with a key does not get the other's page."""
        app = self.counting(way)
        query = {"query_string": {"__idempotent_key": "planted"}}
        answers = [post(app, None, method="GET", **query).text for _ in range(2)]
        assert answers == ["run 1", "run 2"]
        assert [post(app, None, **query).text for _ in range(2)] == ["run 3"] * 2

    @pytest.mark.parametrize("path", ["/", "/other"])
    def test_w5_key_of_another_request(self, way: WayIn, path: str) -> None:
        """W5: a client that follows a redirect sends its key along, and the page is served."""
        app = self.counting(way)
        assert post(app).text == "run 1"
        runs = [post(app, method="GET", path=path).text for _ in range(2)]
        assert len(set(runs)) == 2
        assert post(app).headers["Idempotent-Replayed"] == "true"

    def test_w5_key_of_a_running_request(self, way: WayIn, background: Callable[..., Any]) -> None:
        """W5: so is it while the other request still runs, and nobody waits."""
        app, gate = way.app(methods=("GET", "POST")), Gate()
        app.get("/page")(way(lambda: "page"))

        @app.post("/")
        @way
        def view() -> str:
            gate()
            return "ran"

        first = background(post, app)
        gate.reached()
        assert post(app, method="GET", path="/page").text == "page"
        gate.open()
        assert first.result().text == "ran"

    @pytest.mark.parametrize("key", ["", ",", '"open'])
    def test_w5_malformed_key(self, way: WayIn, key: str) -> None:
        """W5: nor is a GET refused for a key that is none, unless it must have one."""
        app = self.counting(way)
        assert [post(app, key, method="GET").text for _ in range(2)] == ["run 1", "run 2"]
        assert problem(post(app, key)) == (400, "key-invalid")
        app = self.counting(way, required=True)
        assert problem(post(app, key, method="GET")) == (400, "key-invalid")

    def test_w3_required(self, way: WayIn) -> None:
        """W3: where ``methods`` names GET, ``required`` asks it too."""
        app = self.counting(way, required=True)
        assert problem(post(app, None, method="GET")) == (400, "key-missing")

    def test_w5_websocket(self, way: WayIn) -> None:
        """W5: opening a WebSocket is served as if it carried no key, required or not."""
        app = self.counting(way, required=True)
        counting(app, way, "/socket", methods=["GET"], websocket=True)
        request = {"method": "GET", "headers": {"Connection": "Upgrade", "Upgrade": "WebSocket"}}
        runs = [post(app, key, "/socket", **request).text for key in ("a", "a", None, "")]
        assert runs == ["run 1", "run 2", "run 3", "run 4"]
        assert "/socket" not in {route.path for route in policy_of(app).routes}

    def test_w5_other_upgrades(self, way: WayIn) -> None:
        """Some clients offer HTTP/2 with each request: their keys count as usual."""
        app = self.counting(way)
        headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}
        assert [post(app, headers=headers).text for _ in range(2)] == ["run 1"] * 2
        assert problem(post(app, headers=headers, data="other")) == (422, "key-reused")


class TestRouting:
    @pytest.mark.parametrize("key", ["key-one", ","])
    def test_w2_errors_claim_nothing(self, way: WayIn, key: str) -> None:
        """W2: 404, 405 with its Allow and automatic OPTIONS are untouched, bad keys too."""
        store = FaultyStore()
        app = way.app(store=store, required=True)
        counting(app, way)
        assert post(app, key, "/nowhere").status_code == 404
        wrong = post(app, key, method="PUT")
        assert (wrong.status_code, set(wrong.allow)) == (405, {"POST", "OPTIONS"})
        automatic = post(app, key, method="OPTIONS")
        assert (automatic.status_code, set(automatic.allow)) == (200, {"POST", "OPTIONS"})
        assert store.calls == []

    def test_w2_redirect_to_the_slash(self, way: WayIn) -> None:
        """W2: the 308 claims nothing; the client that follows it with its key runs once."""
        app = way.app()
        counting(app, way, "/orders/")
        redirected = post(app, path="/orders")
        assert (redirected.status_code, redirected.location) == (308, "http://localhost/orders/")
        for _ in range(2):
            assert post(app, path="/orders", follow_redirects=True).text == "run 1"

    def test_c3_routing_error_is_not_stored(self, way: WayIn) -> None:
        """C3: an address that was not found is, when it comes to be, found."""
        app = way.app()

        @app.errorhandler(404)
        def not_found(error: HTTPException) -> tuple[str, int]:
            return "nothing here", 200

        assert post(app, path="/later").text == "nothing here"
        app._got_first_request = False
        counting(app, way, "/later")
        assert post(app, path="/later").text == "run 1"


class TestRequired:
    def test_w3_where_the_key_goes(self, way: WayIn) -> None:
        """W3: the text names the header, where the view reads one."""
        app = way.app(required=True)
        counting(app, way)
        assert "in the header Idempotency-Key" in post(app, None).json["detail"]
        app = way.app(required=True, key=lambda request: None)
        counting(app, way)
        assert "header" not in post(app, None).json["detail"]

    @pytest.mark.parametrize("method", ["GET", "PROPFIND"])
    def test_w3_methods_without_an_effect(self, way: WayIn, method: str) -> None:
        """W3: a method without an effect needs no key; an app-wide setting leaves pages alone."""
        app = way.app(required=True)
        counting(app, way, methods=["POST", method])
        assert post(app, None, method=method).text == "run 1"
        assert problem(post(app, None)) == (400, "key-missing")

    def test_w3_missing_key(self, way: WayIn) -> None:
        """W3: where a key is required, a request without one gets 400 and its view does not run."""
        store = FaultyStore()
        app = way.app(store=store, required=True)
        counting(app, way)
        answer = post(app, None)
        assert problem(answer) == (400, "key-missing")
        assert answer.json is not None
        assert answer.json["idempotency_key"] is None
        assert "Idempotency-Key" in answer.json["detail"]
        assert store.calls == []
        assert post(app).text == "run 1"

    @pytest.mark.parametrize("name", ["data", "query_string"], ids=["form", "query"])
    def test_w3_key_elsewhere(self, way: WayIn, name: str) -> None:
        """W3: a key in the form or the query is a key."""
        app = way.app(required=True)
        counting(app, way)
        sent: dict[str, Any] = {name: {"__idempotent_key": "key-one"}}
        assert [post(app, None, **sent).text for _ in range(2)] == ["run 1"] * 2
