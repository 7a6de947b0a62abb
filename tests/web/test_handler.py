"""The handler: what a request gets, whichever way its view is protected."""

from __future__ import annotations

import gc
import io
import logging
import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from itertools import count
from typing import Any

import pytest
from flask import (
    Blueprint,
    Flask,
    Request,
    Response,
    abort,
    copy_current_request_context,
    g,
    redirect,
    request,
    send_file,
    session,
    stream_with_context,
)
from flask_login import (  # type: ignore[import-untyped]
    LoginManager,
    UserMixin,
    login_user,
    logout_user,
)
from werkzeug.exceptions import HTTPException, ServiceUnavailable
from werkzeug.test import TestResponse

from flask_idempotent import current_claim, signals
from flask_idempotent.engine import claimant as attempts_module
from flask_idempotent.errors import RecordUnreadable, StoreUnavailable
from flask_idempotent.policy import policy_of
from flask_idempotent.records import Completed, Compressed
from flask_idempotent.stores.memory import MemoryStore
from tests.engine.harness import Clock, Shaky, fail
from tests.support.clients import Gate, WayIn, post, problem, recorded
from tests.support.polling import until
from tests.support.redis_servers import free_port

Background = Callable[..., Future[TestResponse]]


def counting(app: Flask, way: WayIn, path: str = "/", **options: Any) -> Callable[..., str]:
    """Add a view that answers with the number of its run."""
    runs = count(1)

    @way
    def view(**arguments: object) -> str:
        return f"run {next(runs)}"

    app.add_url_rule(path, f"view {path}", view, **{"methods": ["POST"], **options})
    return view


def gated(app: Flask, way: WayIn) -> Gate:
    """Add a view whose first run stands before a gate, and which answers with its run's number."""
    gate, runs = Gate(), count(1)

    @app.post("/")
    @way
    def view() -> str:
        run = next(runs)
        if run == 1:
            gate()
        return f"run {run}"

    return gate


class TestRunAndReplay:
    def test_c2_r2_retry_gets_the_first_response(self, way: WayIn) -> None:
        """C2, R2: a retry gets status, headers and octets of the first, marked as a replay."""
        app = way.app()

        @app.post("/")
        @way
        def create() -> tuple[bytes, int, list[tuple[str, str]]]:
            links = [("Link", "</a>"), ("Link", "</b>")]
            return b"\x00\xff" + request.data, 201, [("Location", "/orders/7"), *links]

        first, retry = post(app, data=b"body"), post(app, data=b"body")
        assert (first.status, first.data) == ("201 CREATED", b"\x00\xffbody")
        assert (retry.status, retry.data) == (first.status, first.data)
        assert "Idempotent-Replayed" not in first.headers
        assert retry.headers.pop("Idempotent-Replayed") == "true"
        assert list(retry.headers) == list(first.headers)
        assert retry.headers.getlist("Link") == ["</a>", "</b>"]

    def test_other_key_runs(self, way: WayIn) -> None:
        """F5: another key is another operation."""
        app = way.app()
        counting(app, way)
        assert [post(app, key).text for key in ("a", "b", "a")] == ["run 1", "run 2", "run 1"]

    def test_no_key_pays_nothing(self, way: WayIn) -> None:
        """A request without a key runs as ever, and the store never hears of it."""
        store = Shaky()
        app = way.app(store=store)
        counting(app, way)
        assert [post(app, None).text for _ in range(3)] == ["run 1", "run 2", "run 3"]
        assert store.calls == []

    def test_first_costs_two_and_a_replay_one(self, way: WayIn) -> None:
        """A first request claims and completes, a replay claims, whichever the way."""
        store = Shaky()
        app = way.app(store=store)
        counting(app, way)
        post(app)
        assert store.calls == ["claim", "complete"]
        post(app)
        assert store.calls == ["claim", "complete", "claim"]

    def test_view_arguments(self, way: WayIn) -> None:
        """A view gets the arguments of its address."""
        app = way.app()

        @app.post("/orders/<int:number>")
        @way
        def view(number: int) -> dict[str, object]:
            return {"number": number}

        assert post(app, path="/orders/7").json == {"number": 7}
        assert post(app, path="/orders/7").json == {"number": 7}

    def test_blueprint(self, way: WayIn) -> None:
        """Views of a blueprint are protected as an application's own."""
        app = way.app()
        blueprint, runs = Blueprint("shop", "shop"), count(1)

        @blueprint.post("/orders")
        @way
        def view() -> str:
            return f"run {next(runs)}"

        app.register_blueprint(blueprint, url_prefix="/shop")
        assert [post(app, path="/shop/orders").text for _ in range(2)] == ["run 1"] * 2

    def test_async_view(self, way: WayIn) -> None:
        """An async view runs once too."""
        app, runs = way.app(), count(1)

        @app.post("/")
        @way
        async def view() -> str:
            return f"run {next(runs)} of {current_claim.key}"

        assert [post(app).text for _ in range(2)] == ["run 1 of key-one"] * 2

    def test_c5_expired_key_is_new(self, way: WayIn) -> None:
        """C5: after ``expire`` the key is new, and not before."""
        clock = Clock()
        app = way.app(store=MemoryStore(clock), expire=60)
        counting(app, way)
        post(app)
        clock.now += 59.9
        assert post(app).text == "run 1"
        clock.now += 0.2
        assert post(app).text == "run 2"

    def test_c6_precondition_is_the_views_affair(self, way: WayIn) -> None:
        """C6: a replay of a successful PATCH is its 200, not a 412."""
        app, etag = way.app(), ["one"]

        @app.patch("/")
        @way
        def view() -> str:
            if etag[0] not in request.if_match:
                abort(412)
            etag[0] = "two"
            return "patched"

        answers = [post(app, method="PATCH", headers={"If-Match": '"one"'}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]

    def test_inside_an_application_context(self, way: WayIn) -> None:
        """A test that holds an application context open gets the same."""
        app = way.app()
        counting(app, way)
        with app.app_context():
            assert [post(app).text for _ in range(2)] == ["run 1"] * 2

    def test_request_from_inside_a_view(self, way: WayIn) -> None:
        """A view may send another request with a key of its own: two operations, two claims."""
        app, runs = way.app(), count(1)
        counting(app, way, "/inner")

        @app.post("/")
        @way
        def outer() -> str:
            inner = post(app, "key-two", "/inner").text
            return f"outer {next(runs)} of {current_claim.key}, inner {inner}"

        assert [post(app).text for _ in range(2)] == ["outer 1 of key-one, inner run 1"] * 2
        assert post(app, "key-two", "/inner").headers["Idempotent-Replayed"] == "true"


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
        store, runs = Shaky(), count(1)
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
        """W1: whoever makes somebody open a link with a key does not get her page."""
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
        """Some clients offer HTTP/2 with each request: their keys count as ever."""
        app = self.counting(way)
        headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}
        assert [post(app, headers=headers).text for _ in range(2)] == ["run 1"] * 2
        assert problem(post(app, headers=headers, data="other")) == (422, "key-reused")


class TestRouting:
    @pytest.mark.parametrize("key", ["key-one", ","])
    def test_w2_errors_claim_nothing(self, way: WayIn, key: str) -> None:
        """W2: 404, 405 with its Allow and automatic OPTIONS are untouched, bad keys too."""
        store = Shaky()
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
        store = Shaky()
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


class TestBody:
    @pytest.mark.parametrize("form", [False, True])
    def test_w4_incomplete(self, way: WayIn, form: bool) -> None:
        """W4: a body shorter than announced gets 400, claims nothing, and leaves the key free."""
        store = Shaky()
        app = way.app(store=store)
        counting(app, way)
        sent: dict[str, Any] = {
            "data": b"item=book",
            "content_type": "application/x-www-form-urlencoded" if form else "text/plain",
        }
        with recorded(app) as events:
            answer = post(app, environ_overrides={"CONTENT_LENGTH": "100"}, **sent)
        assert problem(answer) == (400, "body-incomplete")
        assert answer.json["idempotency_key"] == "key-one"
        assert [data["problem"] for _, data in events] == ["body-incomplete"]
        assert store.calls == []
        assert post(app, **sent).text == "run 1"

    @pytest.mark.parametrize("limited", ["config", "request", "class"])
    def test_w4_too_large(self, way: WayIn, limited: str) -> None:
        """W4: a body over the application's limit gets Flask's 413, and nothing is claimed."""
        store = Shaky()
        app = way.app(store=store, config={"MAX_CONTENT_LENGTH": None})
        counting(app, way)
        if limited == "config":
            app.config["MAX_CONTENT_LENGTH"] = 10
        elif limited == "class":
            app.request_class = type("Small", (Request,), {"max_content_length": 10})
        elif Request.max_content_length.fset is None:
            pytest.skip("Flask 3.0 has no limit for a single request")
        else:
            app.before_request(lambda: setattr(request, "max_content_length", 10))
        assert post(app, data=b"12345678901").status_code == 413
        assert store.calls == []
        assert post(app, data=b"1234567890").text == "run 1"

    def test_form_without_a_key(self, way: WayIn) -> None:
        """F3: a form that has no key reaches its view untouched."""
        app = way.app()

        @app.post("/")
        @way
        def view() -> dict[str, str]:
            return request.form.to_dict()

        assert post(app, None, data={"item": "book"}).json == {"item": "book"}

    def test_failing_fingerprint(self, way: WayIn) -> None:
        """A fingerprint function that fails stops the request before anything is claimed."""
        store = Shaky()
        app = way.app(store=store, fingerprint=lambda request: 1 / 0)
        counting(app, way)
        assert post(app).status_code == 500
        assert store.calls == []


class TestReuse:
    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"data": b"other"}, id="F4-body"),
            pytest.param({"path": "/orders/2"}, id="F5-path"),
            pytest.param({"method": "PUT"}, id="F5-method"),
            pytest.param({"query_string": "a=1"}, id="F1-query"),
        ],
    )
    def test_other_request(self, way: WayIn, other: dict[str, Any]) -> None:
        """F4, F5: another request under the key gets 422, and the record stays as it was."""
        app = way.app()
        counting(app, way, "/orders/<int:number>", methods=["POST", "PUT"])
        sent: dict[str, Any] = {"path": "/orders/1", "data": b"body"}
        post(app, **sent)
        assert problem(post(app, **(sent | other))) == (422, "key-reused")
        assert post(app, **sent).text == "run 1"

    def test_f5_two_views(self, way: WayIn) -> None:
        """F5: a key used on one view is no key for another, and never brings its response."""
        app = way.app()
        counting(app, way, "/a")
        counting(app, way, "/b")
        assert post(app, path="/a").text == "run 1"
        assert problem(post(app, path="/b")) == (422, "key-reused")

    def test_f4_before_409(self, way: WayIn, background: Background) -> None:
        """F4: another payload gets its 422 at once, also while the first still runs."""
        app = way.app(timeout=30)
        gate = gated(app, way)
        first = background(post, app)
        gate.reached()
        assert problem(post(app, data=b"other")) == (422, "key-reused")
        gate.open()
        assert first.result().text == "run 1"

    def test_c3_problem_is_not_stored(self, way: WayIn) -> None:
        """C3: a 422 under a key leaves no trace in the store."""
        store = Shaky()
        app = way.app(store=store)
        counting(app, way)
        post(app)
        del store.calls[:]
        post(app, data=b"other")
        assert store.calls == ["claim"]


class TestInProgress:
    def test_c1_at_once(self, way: WayIn, background: Background) -> None:
        """C1: with timeout 0 a duplicate gets 409 at once, and Retry-After is at least a second."""
        app = way.app(timeout=0)
        gate = gated(app, way)
        first = background(post, app)
        gate.reached()
        began = time.monotonic()
        duplicate = post(app)
        assert time.monotonic() - began < 0.2
        assert problem(duplicate) == (409, "in-progress")
        assert duplicate.headers["Retry-After"] == "1"
        gate.open()
        assert first.result().text == "run 1"

    @pytest.mark.parametrize(("ran", "after"), [(6.5, "7"), (60, "20")])
    def test_c1_retry_after(
        self,
        way: WayIn,
        background: Background,
        monkeypatch: pytest.MonkeyPatch,
        ran: float,
        after: str,
    ) -> None:
        """C1: try again after as long as the first has run so far, within what its lease has."""
        clock = Clock()
        app = way.app(store=MemoryStore(clock), timeout=0, lease=30)
        gate = gated(app, way)
        first = background(post, app)
        gate.reached()
        clock.now += 10.5
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + ran - 0.2)
        duplicate = post(app)
        monkeypatch.undo()
        assert duplicate.headers["Retry-After"] == after
        gate.open()
        assert first.result().text == "run 1"

    def test_c1_timeout(self, way: WayIn, background: Background) -> None:
        """C1: a duplicate waits for its timeout, and less than 0.2 s longer."""
        app = way.app(timeout=0.3)
        gate = gated(app, way)
        background(post, app)
        gate.reached()
        began = time.monotonic()
        duplicate = post(app)
        waited = time.monotonic() - began
        gate.open()
        assert problem(duplicate) == (409, "in-progress")
        assert 0.3 <= waited < 0.5

    def test_waiting_duplicates_get_the_response(self, way: WayIn, background: Background) -> None:
        """Every duplicate that waits gets the first one's response; the view ran once."""
        store = Shaky()
        app = way.app(store=store)
        gate = gated(app, way)
        first = background(post, app)
        gate.reached()
        duplicates = [background(post, app) for _ in range(8)]
        for _ in duplicates:
            assert store.listening.acquire(timeout=10)
        gate.open()
        assert first.result().text == "run 1"
        answers = [duplicate.result() for duplicate in duplicates]
        assert {answer.text for answer in answers} == {"run 1"}
        assert all("Idempotent-Replayed" in answer.headers for answer in answers)

    def test_one_of_many_takes_over(self, way: WayIn, background: Background) -> None:
        """When the first fails, one duplicate runs and the others get its response."""
        store, gate, runs = Shaky(), Gate(), count(1)
        app = way.app(store=store)

        @app.post("/")
        @way
        def view() -> str:
            run = next(runs)
            if run == 1:
                gate()
                raise ValueError
            return f"run {run}"

        first = background(post, app)
        gate.reached()
        duplicates = [background(post, app) for _ in range(8)]
        for _ in duplicates:
            assert store.listening.acquire(timeout=10)
        gate.open()
        assert first.result().status_code == 500
        answers = [duplicate.result() for duplicate in duplicates]
        assert [answer.text for answer in answers] == ["run 2"] * 8
        assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1

    def test_max_waiters(self, make_app: Callable[..., Flask], background: Background) -> None:
        """Past IDEMPOTENT_MAX_WAITERS a duplicate gets its 409 at once."""
        store = Shaky()
        app = make_app(store=store, config={"IDEMPOTENT_MAX_WAITERS": 1})
        gate = gated(app, WayIn("app-wide", make_app))
        background(post, app)
        gate.reached()
        waiter = background(post, app)
        assert store.listening.acquire(timeout=10)
        assert problem(post(app)) == (409, "in-progress")
        gate.open()
        assert waiter.result().text == "run 1"

    def test_e3_own_error_handler(self, way: WayIn, background: Background) -> None:
        """E3: the application's own handler for a conflict answers in the library's place."""
        app = way.app(timeout=0)
        gate = gated(app, way)
        app.register_error_handler(409, lambda error: ("busy", 409))
        background(post, app)
        gate.reached()
        assert post(app).text == "busy"
        gate.open()


class TestFailingView:
    @pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
    @pytest.mark.parametrize("config", [{}, {"TESTING": True}, {"PROPAGATE_EXCEPTIONS": True}])
    def test_unhandled_exception_releases(
        self, way: WayIn, config: dict[str, Any], error: type[BaseException]
    ) -> None:
        """An exception that leaves the view goes on rising, and the next request runs."""
        app, runs = way.app(config=config), count(1)

        @app.post("/")
        @way
        def view() -> str:
            if next(runs) == 1:
                raise error
            return "second run"

        if config or not issubclass(error, Exception):
            with pytest.raises(error):
                post(app)
        else:
            assert post(app).status_code == 500
        assert [post(app).text for _ in range(2)] == ["second run"] * 2

    def test_no_answer_releases(self, way: WayIn) -> None:
        """A view that answers with nothing has failed: the next request runs."""
        app, runs = way.app(), count(1)

        @app.post("/")
        @way
        def view() -> Any:
            return None if next(runs) == 1 else "second run"

        assert post(app).status_code == 500
        assert post(app).text == "second run"

    def test_c4_handled_exception_is_stored(self, way: WayIn) -> None:
        """C4: what an error handler makes of an exception is the view's answer, and is replayed."""
        app, runs = way.app(), count(1)

        @app.errorhandler(ValueError)
        def no_stock(error: ValueError) -> tuple[str, int]:
            return f"no stock, run {next(runs)}", 422

        @app.post("/")
        @way
        def view() -> str:
            raise ValueError

        answers = [post(app) for _ in range(2)]
        assert [(a.status_code, a.text) for a in answers] == [(422, "no stock, run 1")] * 2

    def test_c4_blueprints_handler(self, way: WayIn) -> None:
        """C4: the handler of the view's own blueprint comes first, as without the library."""
        app = way.app()
        blueprint = Blueprint("shop", "shop")
        app.register_error_handler(ValueError, lambda error: ("the app's", 400))
        blueprint.register_error_handler(ValueError, lambda error: ("the blueprint's", 400))

        @blueprint.post("/")
        @way
        def view() -> str:
            raise ValueError

        app.register_blueprint(blueprint)
        assert [post(app).text for _ in range(2)] == ["the blueprint's"] * 2

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
    def test_c4_handled_exception_is_released(self, way: WayIn, status: int) -> None:
        """C4: an error handler's answer that ``store_if`` refuses is released; the next runs."""
        app, runs = way.app(), count(1)
        app.register_error_handler(ValueError, lambda error: (f"run {next(runs)}", status))

        @app.post("/")
        @way
        def view() -> str:
            raise ValueError

        assert [post(app).text for _ in range(2)] == ["run 1", "run 2"]

    @pytest.mark.parametrize(
        ("status", "runs"), [(400, 1), (404, 1), (409, 1), (422, 1), (429, 2), (500, 2), (503, 2)]
    )
    def test_c4_abort(self, way: WayIn, status: int, runs: int) -> None:
        """C4: an error that the view aborts with is its answer, stored or released by status."""
        app, ran = way.app(), count(1)

        @app.post("/")
        @way
        def view() -> str:
            abort(status, f"run {next(ran)}")

        answers = [post(app) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [status] * 2
        assert f"run {runs}" in answers[1].text

    def test_c4_abort_with_a_response(self, way: WayIn) -> None:
        """C4: a whole response to abort with is an answer like any."""
        app, ran = way.app(), count(1)

        @app.post("/")
        @way
        def view() -> str:
            abort(Response(f"run {next(ran)}", 402))

        assert [(post(app).status_code, post(app).text) for _ in range(2)] == [(402, "run 1")] * 2

    def test_handler_of_500_does_not_store(self, way: WayIn) -> None:
        """An exception that only the handler of 500 sees is unhandled: the next request runs."""
        app, runs = way.app(), count(1)
        app.register_error_handler(500, lambda error: ("sorry", 200))

        @app.post("/")
        @way
        def view() -> str:
            if next(runs) == 1:
                raise ValueError
            return "second run"

        assert [post(app).text for _ in range(2)] == ["sorry", "second run"]

    def test_failing_error_handler_releases(self, way: WayIn) -> None:
        """An error handler that fails itself leaves nothing behind."""
        app, runs = way.app(), count(1)

        @app.errorhandler(ValueError)
        def handler(error: ValueError) -> str:
            raise KeyError from error

        @app.post("/")
        @way
        def view() -> str:
            if next(runs) == 1:
                raise ValueError
            return "second run"

        assert post(app).status_code == 500
        assert post(app).text == "second run"


class TestStoreIf:
    def test_c4_decides(self, way: WayIn) -> None:
        """C4: ``store_if`` decides by the response; what it refuses runs again."""
        app, runs = way.app(store_if=lambda response: response.status_code == 201), count(200)

        @app.post("/")
        @way
        def view() -> tuple[str, int]:
            return "", next(runs)

        assert [post(app).status_code for _ in range(3)] == [200, 201, 201]

    def test_fails(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """A ``store_if`` that raises costs neither the response nor a second run."""
        app = way.app(store_if=lambda response: 1 / 0 > 0)
        counting(app, way)
        assert [post(app).text for _ in range(2)] == ["run 1"] * 2
        assert "store_if failed" in caplog.text

    @pytest.mark.parametrize("status", [206, 304])
    def test_r6_never_stored(self, way: WayIn, status: int) -> None:
        """R6: a view's 206 or 304 passes and is never stored, whatever ``store_if`` says."""
        app, runs = way.app(store_if=lambda response: True), count(1)

        @app.post("/")
        @way
        def view() -> Response:
            return Response(status=status, headers={"X-Run": str(next(runs))})

        answers = [post(app) for _ in range(2)]
        assert [(a.status_code, a.headers["X-Run"]) for a in answers] == [
            (status, "1"),
            (status, "2"),
        ]

    @pytest.mark.parametrize("streamed", [False, True])
    def test_unstorable_response(
        self, way: WayIn, streamed: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A response that cannot be turned into a record goes out; its view never runs again."""
        store, runs = Shaky(), count(1)
        app = way.app(store=store, timeout=0)

        @app.post("/")
        @way
        def view() -> Response:
            chunks = [f"run {next(runs)}"]
            return Response(iter(chunks) if streamed else chunks)

        store.before["complete"] = [fail(ValueError("no record has such a text"))]
        assert post(app).text == "run 1"
        assert problem(post(app)) == (409, "response-not-kept")
        assert "the response cannot be stored" in caplog.text

    def test_r12_response_that_cannot_be_sent(
        self, way: WayIn, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What no server may send goes out as without us, is logged, and its view runs once."""
        app, runs = way.app(timeout=0), count(1)

        @app.post("/")
        @way
        def view() -> Response:
            return Response(f"run {next(runs)}", 201, {"X-Name": "secret \u9375"})

        first = post(app)
        assert (first.text, first.headers["X-Name"]) == ("run 1", "secret \u9375")
        assert problem(post(app)) == (409, "response-not-kept")
        assert "the response of view is not kept, as it could not be sent again" in caplog.text
        assert "the header 'X-Name' cannot be sent" in caplog.text
        assert "secret" not in caplog.text

    @pytest.mark.parametrize("interrupted", [False, True])
    def test_broken_response(self, way: WayIn, interrupted: bool) -> None:
        """A response that fails before it is captured keeps no key stuck; its view runs once."""
        store, runs = Shaky(), count(1)

        def decide(response: Response) -> bool:
            if interrupted:
                raise SystemExit
            return True

        app = way.app(store=store, timeout=0, store_if=decide)

        @app.post("/")
        @way
        def view() -> Response:
            next(runs)
            return Response(["\ud800"])  # No UTF-8 says this.

        with pytest.raises(SystemExit) if interrupted else nullcontext():
            assert post(app).status_code == 500
        until(lambda: isinstance(store.read(*store.scan("")), Completed))
        assert problem(post(app)) == (409, "response-not-kept")
        assert next(runs) == 2


class TestScope:
    def test_f6_two_callers(self, way: WayIn) -> None:
        """F6: two callers with one key and body are two operations, each with its response."""
        app = way.app()
        counting(app, way)
        callers = [{"Authorization": "Bearer ada"}, {"Authorization": "Bearer bob"}, {}]
        for _ in range(2):
            answers = [post(app, headers=caller).text for caller in callers]
            assert answers == ["run 1", "run 2", "run 3"]

    def test_f6_flask_login(self, way: WayIn) -> None:
        """F6: who is logged in with Flask-Login has keys of their own, before and after logout."""
        app = way.app()
        manager = LoginManager(app)
        users = {name: type(name, (UserMixin,), {"id": name})() for name in ("ada", "bob")}
        manager.user_loader(users.get)
        app.add_url_rule("/in/<name>", "in", lambda name: str(login_user(users[name])))
        app.add_url_rule("/out", "out", lambda: str(logout_user()))
        counting(app, way)
        client = app.test_client()

        def send() -> str:
            return client.post("/", headers={"Idempotency-Key": "key-one"}).text

        seen = [send()]
        for path in ("/in/ada", "/out", "/in/bob", "/out", "/in/ada"):
            client.get(path)
            seen.append(send())
        assert seen == ["run 1", "run 2", "run 1", "run 3", "run 1", "run 2"]

    def test_f6_no_vary(self, way: WayIn) -> None:
        """F6: looking for a login does not mark the session as used."""
        app = way.app()
        counting(app, way)
        assert all("Vary" not in post(app).headers for _ in range(2))

    def test_f6_own_scope(self, way: WayIn) -> None:
        """F6: a scope function replaces the default: the account, not the token, is the caller."""
        app = way.app(scope=lambda request: request.headers["X-Account"])
        counting(app, way)
        sent = [("1", "old"), ("1", "new"), ("2", "new")]
        answers = [
            post(app, headers={"X-Account": account, "Authorization": token}).text
            for account, token in sent
        ]
        assert answers == ["run 1", "run 1", "run 2"]

    @pytest.mark.parametrize("result", ["raises", 7.5])
    def test_f6_failing_scope(self, way: WayIn, result: object) -> None:
        """F6: a scope function that fails stops the request, it never means a shared scope."""

        def scope(request: object) -> Any:
            if result == "raises":
                raise LookupError
            return result

        store = Shaky()
        app = way.app(store=store, scope=scope)
        counting(app, way)
        assert post(app).status_code == 500
        assert store.calls == []


class TestPlaceInTheRequest:
    def test_authentication_precedes_a_replay(self, way: WayIn) -> None:
        """What ``before_request`` refuses never sees a replay, and is not stored (C3)."""
        app, allowed = way.app(), [False]

        @app.before_request
        def authenticate() -> tuple[str, int] | None:
            return None if allowed[0] else ("who are you?", 401)

        counting(app, way)
        for permission, expected in ((False, 401), (True, 200), (False, 401), (True, 200)):
            allowed[0] = permission
            answer = post(app)
            assert answer.status_code == expected
        assert answer.text == "run 1"

    def test_blueprints_before_request_precedes_a_replay(self, way: WayIn) -> None:
        """A blueprint's ``before_request`` comes before the check as well."""
        app, allowed = way.app(), [True]
        blueprint = Blueprint("shop", "shop")
        blueprint.before_request(lambda: None if allowed[0] else ("no", 403))

        @blueprint.post("/")
        @way
        def view() -> str:
            return "run"

        app.register_blueprint(blueprint)
        assert post(app).status_code == 200
        allowed[0] = False
        assert post(app).status_code == 403

    @pytest.mark.parametrize("outcome", ["first", "replay", "E3-reuse"])
    def test_after_request_and_teardown_run(self, way: WayIn, outcome: str) -> None:
        """``after_request`` and teardown run once for every answer, replays and problems too."""
        app, ended = way.app(), []

        @app.after_request
        def sign(response: Response) -> Response:
            response.headers["X-Signed"] = "yes"
            return response

        app.teardown_request(lambda error: ended.append(error))
        counting(app, way)
        if outcome != "first":
            post(app)
        answer = post(app, data=b"other" if outcome == "E3-reuse" else b"")
        assert answer.headers.getlist("X-Signed") == ["yes"]
        assert len(ended) == (1 if outcome == "first" else 2)

    def test_r4_captured_before_after_request(self, way: WayIn) -> None:
        """R4: what ``after_request`` does to a response is done anew to its replay, not twice."""
        app = way.app()

        @app.after_request
        def wrap(response: Response) -> Response:
            encoding = request.headers["Accept-Encoding"]
            response.data = f"{encoding}({response.get_data(as_text=True)})"
            response.headers["Content-Encoding"] = encoding
            return response

        counting(app, way)
        answers = [post(app, headers={"Accept-Encoding": name}) for name in ("gzip", "br")]
        assert [answer.text for answer in answers] == ["gzip(run 1)", "br(run 1)"]
        assert answers[1].headers.getlist("Content-Encoding") == ["br"]

    def test_session_saving(self, way: WayIn) -> None:
        """The first answer saves the session; a replay repeats no cookie, but its request's own."""
        app = way.app()

        @app.before_request
        def visit() -> None:
            if "visit" in request.headers:
                session["visit"] = True

        @app.post("/")
        @way
        def view() -> str:
            session["ordered"] = True
            return "done"

        assert "Set-Cookie" in post(app).headers
        assert "Set-Cookie" not in post(app).headers
        assert "Set-Cookie" in post(app, headers={"visit": "1"}).headers

    def test_r5_redirect_after_a_form(self, way: WayIn) -> None:
        """R5: a form sent twice is led to the same place twice."""
        app, orders = way.app(), count(7)

        @app.post("/")
        @way
        def view() -> Any:
            return redirect(f"/orders/{next(orders)}", 303)

        form = {"__idempotent_key": "key-one", "item": "book"}
        answers = [post(app, None, data=form) for _ in range(2)]
        assert [(a.status_code, a.location) for a in answers] == [(303, "/orders/7")] * 2

    def test_f3_view_sees_the_request_untouched(self, way: WayIn) -> None:
        """F3: form and file are there for the view."""
        app = way.app()

        @app.post("/")
        @way
        def view() -> dict[str, str]:
            return {"field": request.form["a"], "file": request.files["f"].read().decode()}

        data = {"__idempotent_key": "key-one", "a": "1", "f": (io.BytesIO(b"content"), "f.txt")}
        assert post(app, None, data=data).json == {"field": "1", "file": "content"}


class TestOnCrash:
    """An owner dies here when the store never hears of its release."""

    @pytest.fixture
    def store(self) -> MemoryStore:
        class Deaf(MemoryStore):
            def release(self, key: str, owner: bytes, **lives: int) -> bool:
                return True

        return Deaf(Clock())

    def crash(self, app: Flask, way: WayIn) -> None:
        """Let the first run of a view die."""
        runs = count(1)

        @app.post("/")
        @way
        def view() -> str:
            if next(runs) == 1:
                raise SystemExit
            return f"attempt {current_claim.attempt}"

        with pytest.raises(SystemExit):
            post(app)

    def pass_time(self, store: MemoryStore, seconds: float) -> None:
        clock = store._clock
        assert isinstance(clock, Clock)
        clock.now += seconds

    def test_rerun(self, way: WayIn, store: MemoryStore) -> None:
        """When the lease of a dead owner is over, the next request runs, as attempt 2."""
        app = way.app(store=store, lease=30, timeout=0)
        self.crash(app, way)
        self.pass_time(store, 29)
        assert problem(post(app)) == (409, "in-progress")
        self.pass_time(store, 2)
        assert [post(app).text for _ in range(2)] == ["attempt 2"] * 2

    def test_rerun_compares_the_fingerprint(self, way: WayIn, store: MemoryStore) -> None:
        """F4: a dead owner's key is still bound to its payload."""
        app = way.app(store=store, lease=30)
        self.crash(app, way)
        self.pass_time(store, 31)
        assert problem(post(app, data=b"other")) == (422, "key-reused")

    def test_hold(self, way: WayIn, store: MemoryStore) -> None:
        """With ``hold`` a dead owner's key answers 409, not to be retried, until it expires."""
        app = way.app(store=store, lease=30, expire=240, on_crash="hold")
        self.crash(app, way)
        self.pass_time(store, 31)
        answer = post(app)
        assert problem(answer) == (409, "outcome-unknown")
        assert answer.json is not None
        assert answer.json["retryable"] is False
        assert "Retry-After" not in answer.headers
        self.pass_time(store, 240)
        assert post(app).text == "attempt 1"

    def test_hold_tells_waiters(
        self,
        way: WayIn,
        store: MemoryStore,
        background: Background,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """With ``hold`` a waiter is told as soon as the lease is over."""
        monkeypatch.setattr(attempts_module, "POLL_EVERY", 0.01)
        app = way.app(store=store, lease=30, timeout=30, on_crash="hold")
        self.crash(app, way)
        waiter = background(post, app)
        self.pass_time(store, 31)
        assert problem(waiter.result(10)) == (409, "outcome-unknown")


class TestStreaming:
    def test_r3_chunks_arrive_as_produced(self, way: WayIn) -> None:
        """R3: a stream stays a stream, its end is stored, and the replay is equal."""
        app, produced = way.app(), []

        @app.post("/")
        @way
        def view() -> Iterator[str]:
            for chunk in ("one ", "two ", "three"):
                produced.append(chunk)
                yield chunk

        answer = post(app, buffered=False)
        chunks = answer.iter_encoded()
        seen = []
        for chunk in chunks:
            seen.append(chunk)
            assert len(produced) == len(seen)
        answer.close()
        assert seen == [b"one ", b"two ", b"three"]
        retry = post(app)
        assert (retry.text, len(produced)) == ("one two three", 3)
        assert retry.headers["Idempotent-Replayed"] == "true"

    def test_r3_stream_with_context(self, way: WayIn) -> None:
        """R3: a stream may use the request, and its claim is current until it ends."""
        app = way.app()

        @app.post("/")
        @way
        def view() -> Iterator[str]:
            def chunks() -> Iterator[str]:
                yield request.path
                yield current_claim.key

            return stream_with_context(chunks())

        assert [post(app).text for _ in range(2)] == ["/key-one"] * 2

    def test_r3_send_file(self, way: WayIn) -> None:
        """R3: a file that is sent is replayed from the store."""
        app, contents = way.app(), iter([b"first", b"second"])

        @app.post("/")
        @way
        def view() -> Response:
            return send_file(io.BytesIO(next(contents)), download_name="a.txt")

        answers = [post(app) for _ in range(2)]
        assert [a.data for a in answers] == [b"first"] * 2
        assert (
            answers[1].headers["Content-Disposition"] == answers[0].headers["Content-Disposition"]
        )

    def test_r3_call_on_close(self, way: WayIn) -> None:
        """R3: what the view wants done when its response is closed is done, once."""
        app, closed = way.app(), []

        @app.post("/")
        @way
        def view() -> Response:
            response = Response(iter(["a", "b"]))
            response.call_on_close(lambda: closed.append("closed"))
            return response

        assert [post(app).text for _ in range(2)] == ["ab"] * 2
        assert closed == ["closed"]

    def test_duplicate_of_a_running_stream(self, way: WayIn) -> None:
        """Until its stream ends a request is in progress, and its claim is renewed."""
        store = Shaky()
        app = way.app(store=store, timeout=0, lease=0.2)

        @app.post("/")
        @way
        def view() -> Iterator[str]:
            yield "one "
            yield "two"

        answer = post(app, buffered=False)
        chunks = answer.iter_encoded()
        next(chunks)
        until(lambda: store.calls.count("renew") > 1)
        assert problem(post(app)) == (409, "in-progress")
        assert list(chunks) == [b"two"]
        answer.close()
        assert post(app).text == "one two"

    @pytest.mark.parametrize("how", ["breaks off", "is closed early", "is never read"])
    def test_broken_stream_is_not_kept(self, way: WayIn, how: str) -> None:
        """A stream that did not reach its end is a 409 for every retry, never a second run."""
        app, runs = way.app(timeout=0), count(1)

        @app.after_request
        def replace(response: Response) -> Response:
            return Response("replaced") if how == "is never read" else response

        @app.post("/")
        @way
        def view() -> Iterator[str]:
            def chunks() -> Iterator[str]:
                yield f"run {next(runs)}"
                yield "more"
                raise ValueError("broken")

            return chunks()

        answer = post(app, buffered=False)
        if how != "is never read":
            chunks = answer.iter_encoded()
            next(chunks)
        if how == "breaks off":
            with pytest.raises(ValueError, match="broken"):
                list(chunks)
        answer.close()
        gc.collect()
        app.after_request_funcs.clear()
        assert problem(post(app)) == (409, "response-not-kept")
        assert next(runs) == (1 if how == "is never read" else 2)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_over_max_body_is_not_kept(self, way: WayIn, streamed: bool) -> None:
        """A body over ``max_body`` goes out whole; a retry gets 409 and never a second run."""
        app, runs = way.app(max_body=10), count(1)

        @app.post("/")
        @way
        def view() -> Response:
            chunks = [f"{next(runs)}", "23456", "78901"]
            return Response(iter(chunks) if streamed else "".join(chunks))

        assert post(app).text == "12345678901"
        answer = post(app)
        assert problem(answer) == (409, "response-not-kept")
        assert "Retry-After" not in answer.headers
        assert next(runs) == 2

    @pytest.mark.parametrize("compress", [None, 1000, 1001])
    def test_compressed(self, way: WayIn, compress: int | None) -> None:
        """From ``compress`` octets on a body is kept compressed; its replay is the same."""
        app = way.app(compress=compress)

        @app.post("/")
        @way
        def view() -> str:
            return "x" * 1000

        first, again = post(app), post(app)
        assert first.data == again.data == b"x" * 1000
        assert again.headers["Content-Length"] == "1000"
        assert again.headers["Idempotent-Replayed"] == "true"
        store = app.extensions["idempotent"].engine.store
        (sight,) = store.inspect(store.scan("IDEMPOTENT_"))
        assert (sight.octets < 500) is (compress == 1000)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_exactly_max_body_is_kept(self, way: WayIn, streamed: bool) -> None:
        """``max_body`` octets are kept."""
        app = way.app(max_body=10)

        @app.post("/")
        @way
        def view() -> Response:
            return Response(iter(["12345", "67890"]) if streamed else "1234567890")

        assert [post(app).text for _ in range(2)] == ["1234567890"] * 2

    def test_r6_streamed_206(self, way: WayIn) -> None:
        """R6: a range of a file passes, and the key is free for the whole."""
        app = way.app()

        @app.post("/")
        @way
        def view() -> Response:
            return send_file(io.BytesIO(b"0123456789"), download_name="a", conditional=True)

        part = post(app, headers={"Range": "bytes=0-3"})
        # Werkzeug answers ranges of GET and HEAD alone; another method gets the whole.
        assert (part.status_code, part.data) in [(206, b"0123"), (200, b"0123456789")]
        assert post(app).data == b"0123456789"


class TestStoreErrors:
    @pytest.fixture
    def down(self) -> dict[str, str]:
        """The address of a server that is not there."""
        return {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}

    def test_r7_reject(
        self, way: WayIn, down: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """R7: without its store a request gets 503 within 2 s, and its view does not run."""
        app, runs = way.app(config=down), count(1)

        @app.post("/")
        @way
        def view() -> str:
            return f"run {next(runs)}"

        began = time.monotonic()
        with recorded(app) as events:
            answer = post(app)
        assert time.monotonic() - began < 2
        assert problem(answer) == (503, "store-unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json is not None
        assert answer.json["retryable"] is True
        assert [name for name, _ in events] == ["store_failed", "rejected"]
        assert ("flask_idempotent", logging.ERROR) in [r[:2] for r in caplog.record_tuples]
        assert next(runs) == 1

    def test_r7_run(
        self, way: WayIn, down: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """With ``on_store_error="run"`` the view runs, unprotected, and that is told."""
        app = way.app(config=down, on_store_error="run")
        counting(app, way)
        began = time.monotonic()
        with recorded(app) as events:
            answers = [post(app).text for _ in range(2)]
        assert time.monotonic() - began < 4
        assert answers == ["run 1", "run 2"]
        assert [(name, data["operation"]) for name, data in events] == [
            ("store_failed", "claim"),
            ("store_failed", "claim"),
        ]
        assert isinstance(events[0][1]["error"], StoreUnavailable)
        warnings = [r for r in caplog.records if r.name == "flask_idempotent"]
        assert {r.levelno for r in warnings} == {logging.WARNING}

    def test_no_key_needs_no_store(self, way: WayIn, down: dict[str, str]) -> None:
        """A request without a key does not notice that the store is down."""
        app = way.app(config=down)
        counting(app, way)
        assert post(app, None).text == "run 1"

    def test_r7_after_the_view(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """R7: a response that could not be stored goes out, is stored later, and runs no more."""
        store = Shaky()
        app = way.app(store=store)
        counting(app, way)
        store.before["complete"] = [fail(StoreUnavailable("down"))]
        with recorded(app) as events:
            assert [post(app).text for _ in range(2)] == ["run 1"] * 2
        failures = [data for name, data in events if name == "store_failed"]
        assert [data["operation"] for data in failures] == ["complete"]
        assert "the store failed to complete" in caplog.text

    def test_failed_release_frees_the_key(self, way: WayIn) -> None:
        """A release that the store did not take is made good: the next request runs."""
        store, runs = Shaky(), count(1)
        app = way.app(store=store)

        @app.post("/")
        @way
        def view() -> str:
            if next(runs) == 1:
                raise ValueError
            return "second run"

        store.before["release"] = [fail(StoreUnavailable("down"))]
        assert post(app).status_code == 500
        assert post(app).text == "second run"

    def test_unreadable_record(self, way: WayIn) -> None:
        """A damaged record is a 503 without Retry-After, never a second run."""
        store = Shaky()
        app = way.app(store=store)
        counting(app, way)
        store.before["claim"] = [fail(RecordUnreadable("damaged"))]
        answer = post(app)
        assert problem(answer) == (503, "record-unreadable")
        assert "Retry-After" not in answer.headers

    def test_r12_unreadable_body(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """So is one whose body swells beyond what the view may keep."""
        store = Shaky()
        app = way.app(store=store, max_body=100)
        counting(app, way)
        post(app)
        (entry,) = store._entries.values()
        body = Compressed(zlib.compress(bytes(1000)), 1000)
        entry.record = entry.record._replace(body=body)  # type: ignore[call-arg]
        assert problem(post(app)) == (503, "record-unreadable")
        assert "its body of 1000 octets is larger than max_body" in caplog.text

    def test_e3_own_error_handler(self, way: WayIn, down: dict[str, str]) -> None:
        """E3: the application's handler of the werkzeug class answers in the library's place."""
        app = way.app(config=down)
        counting(app, way)
        app.register_error_handler(ServiceUnavailable, lambda error: ("later", 503))
        assert post(app).text == "later"


class TestCurrentClaim:
    def test_falsy_outside(self, way: WayIn) -> None:
        """Outside a request, without a key and in ``before_request`` nothing is claimed."""
        app, seen = way.app(), []
        app.before_request(lambda: seen.append(bool(current_claim)))

        @app.post("/")
        @way
        def view() -> str:
            return str(bool(current_claim))

        assert not current_claim
        assert post(app, None).text == "False"
        assert post(app).text == "True"
        assert seen == [False, False]
        assert not current_claim

    def test_attributes(self, way: WayIn) -> None:
        """Inside, a claim tells its key, its owner, its attempt and that it is held."""
        app = way.app()

        @app.post("/")
        @way
        def view() -> list[Any]:
            return [
                current_claim.key,
                current_claim.attempt,
                current_claim.held,
                current_claim.owner,
            ]

        first, second = post(app, "a").get_json(), post(app, "b").get_json()
        assert (first[:3], second[:3]) == (["a", 1, True], ["b", 1, True])
        assert len({first[3], second[3]}) == 2

    def test_over_when_the_view_has_answered(self, way: WayIn) -> None:
        """Once the response is stored, and on a replay, nothing is claimed any more."""
        app, seen = way.app(), []

        @app.after_request
        def look(response: Response) -> Response:
            seen.append(bool(current_claim))
            return response

        counting(app, way)
        post(app)
        post(app)
        assert seen == [False, False]

    def test_copied_request_context(self, way: WayIn) -> None:
        """A thread with a copy of the request's context sees the claim, and needs no other."""
        store = Shaky()
        app = way.app(store=store)
        inner = counting(app, way, "/inner")

        @app.post("/")
        @way
        def view() -> str:
            seen: list[str] = []

            @copy_current_request_context
            def work() -> None:
                seen.append(f"{current_claim.key} {inner()!r}")

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            return seen[0]

        assert post(app).text.startswith("key-one ")
        assert store.calls == ["claim", "complete"]

    def test_lease_lost(
        self, way: WayIn, background: Background, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An owner that overran its lease is told, its caller is served, the other's result stands.

        The log has a WARNING, and ``lease_lost`` is sent.
        """
        clock, gate, held = Clock(), Gate(), []
        app = way.app(store=MemoryStore(clock), lease=30, expire=240)

        @app.post("/")
        @way
        def view() -> str:
            attempt = current_claim.attempt
            if attempt == 1:
                gate()
                held.append(current_claim.held)
            return f"attempt {attempt}"

        with recorded(app) as events:
            late = background(post, app)
            gate.reached()
            clock.now += 31
            assert post(app).text == "attempt 2"
            gate.open()
            assert late.result().text == "attempt 1"
        assert post(app).text == "attempt 2"
        lost = [data for name, data in events if name == "lease_lost"]
        assert [(data["key"], data["attempt"]) for data in lost] == [("key-one", 1)]
        assert set(lost[0]) == {"key", "storage_key", "owner", "attempt"}
        storage_key = lost[0]["storage_key"]
        assert re.search(
            rf"WARNING .*take-over: key key…, record {storage_key}, attempt 2, endpoint view; "
            rf"its owner died: \S+, process {os.getpid()}, which began \d+\.\d s ago",
            caplog.text,
        )
        records = [r for r in caplog.records if "lease lost" in r.getMessage()]
        assert [r.levelno for r in records] == [logging.WARNING]


class TestSignals:
    def test_first_and_replay(self, way: WayIn) -> None:
        """A first request is claimed and completed, a duplicate replayed; the sender is the app."""
        app = way.app()
        counting(app, way)
        with recorded(app) as events:
            post(app)
            post(app)
        (claimed, claim), (completed, completion), (replayed, replay) = events
        assert (claimed, completed, replayed) == ("claimed", "completed", "replayed")
        name = claim["storage_key"]
        owner = claim.pop("owner")
        assert isinstance(owner, str)
        told = {"key": "key-one", "storage_key": name, "attempt": 1, "took_over": False}
        assert claim == told
        assert completion.pop("seconds") >= 0
        assert completion == {"key": "key-one", "storage_key": name, "status": 200, "kept": True}
        age = replay.pop("age")
        assert 0 <= age < 10
        assert replay == {"key": "key-one", "storage_key": name, "status": 200, "waited": 0.0}

    def test_not_kept(self, way: WayIn) -> None:
        """A response that is not kept says so."""
        app = way.app(max_body=0)
        counting(app, way)
        with recorded(app) as events:
            post(app)
            post(app)
        assert [name for name, _ in events] == ["claimed", "completed", "rejected"]
        assert events[1][1]["kept"] is False
        assert events[2][1]["problem"] == "response-not-kept"

    @pytest.mark.parametrize("reason", ["failed", "not-stored"])
    def test_released(self, way: WayIn, reason: str) -> None:
        """A release tells its reason."""
        app = way.app()

        @app.post("/")
        @way
        def view() -> tuple[str, int]:
            if reason == "failed":
                raise ValueError
            return "", 503

        with recorded(app) as events:
            post(app)
        (_, claim), (name, data) = events
        assert name == "released"
        assert data == {"key": "key-one", "storage_key": claim["storage_key"], "reason": reason}

    def test_waited(self, way: WayIn, background: Background) -> None:
        """A duplicate that waited tells how long, then that it got a replay."""
        store = Shaky()
        app = way.app(store=store)
        gate = gated(app, way)
        with recorded(app) as events:
            first = background(post, app)
            gate.reached()
            duplicate = background(post, app)
            assert store.listening.acquire(timeout=10)
            gate.open()
            first.result()
            duplicate.result()
        data = dict(events)
        assert data["waited"].keys() == {"key", "storage_key", "seconds"}
        assert data["waited"]["seconds"] > 0
        assert data["replayed"]["waited"] > 0

    @pytest.mark.parametrize(
        ("sent", "slug", "status", "key"),
        [
            pytest.param({"key": None}, "key-missing", 400, None, id="W3"),
            pytest.param({"key": ","}, "key-invalid", 400, None, id="K5"),
            pytest.param({"data": b"other"}, "key-reused", 422, "key-one", id="F4"),
        ],
    )
    def test_rejected(
        self, way: WayIn, sent: dict[str, Any], slug: str, status: int, key: str | None
    ) -> None:
        """A problem is told with its type and status, and the key where it was readable."""
        app = way.app(required=True)
        counting(app, way)
        post(app)
        with recorded(app) as events:
            assert post(app, **sent).status_code == status
        ((name, data),) = events
        assert name == "rejected"
        assert (data["problem"], data["status"], data["key"]) == (slug, status, key)
        assert (data["storage_key"] is None) == (key is None)

    @pytest.mark.parametrize("name", ["claimed", "completed", "replayed"])
    def test_failing_receiver_harms_nobody(
        self, way: WayIn, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A receiver that raises is logged, and the request goes on."""
        app = way.app()
        counting(app, way)

        def bad(sender: object, **data: object) -> None:
            raise ValueError

        with getattr(signals, name).connected_to(bad, sender=app):
            assert [post(app).text for _ in range(2)] == ["run 1"] * 2
        assert f"a receiver of the signal {name} failed" in caplog.text

    def test_failing_receiver_hides_nothing_from_others(self, way: WayIn) -> None:
        """A receiver that raises keeps no other from hearing."""
        app, heard = way.app(), []
        counting(app, way)

        def receiver(name: str) -> Callable[..., None]:
            def receive(sender: object, **data: object) -> None:
                heard.append(name)
                raise ValueError

            return receive

        one, two = (signals.claimed.connected_to(receiver(n), sender=app) for n in ("a", "b"))
        with one, two:
            post(app)
        assert sorted(heard) == ["a", "b"]


class TestLog:
    def test_k8_replay(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """K8: a replay is one INFO line with the record's name, and never the whole key."""
        caplog.set_level(logging.INFO, "flask_idempotent")
        app, key = way.app(), "secret-0123456789-0123456789"
        counting(app, way)
        with recorded(app) as events:
            post(app, key)
            assert [r for r in caplog.records if r.levelno == logging.INFO] == []
            post(app, key)
        (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
        assert line.startswith("replay: ")
        assert key[:8] in line
        assert key[:9] not in line
        assert events[-1][1]["storage_key"] in line

    def test_first_request_says_nothing(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """A first request that goes well leaves no line."""
        caplog.set_level(logging.DEBUG, "flask_idempotent")
        app = way.app(store=Shaky())
        counting(app, way)
        post(app)
        assert [r for r in caplog.records if r.name.startswith("flask_idempotent")] == []


class TestGlobals:
    def test_g_is_the_requests_own(self, way: WayIn) -> None:
        """The library puts nothing on ``g``."""
        app = way.app()

        @app.post("/")
        @way
        def view() -> list[str]:
            return sorted(g)

        assert post(app).json == []
