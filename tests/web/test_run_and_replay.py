"""Running a view once, replaying its response, and what duplicates get meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import Any

import pytest
from flask import (
    Blueprint,
    abort,
    request,
)
from werkzeug.test import TestResponse

from flask_idempotent import current_claim
from flask_idempotent.stores.memory import MemoryStore
from tests.support.clients import WayIn, post, problem
from tests.support.faulty_store import Clock, FaultyStore
from tests.support.views import counting, gated

Background = Callable[..., Future[TestResponse]]


class TestRunAndReplay:
    def test_c2_r2_retry_gets_the_first_response(self, way: WayIn) -> None:
        """C2, R2: a retry gets status, headers and bytes of the first, marked as a replay."""
        app = way.app()

        @app.post("/")
        @way
        def create() -> tuple[bytes, int, list[tuple[str, str]]]:
            links = [("Link", "</a>"), ("Link", "</b>")]
            return b"\x00\xff" + request.data, 201, [("Location", "/orders/7"), *links]

        first, retry = post(app, data=b"body"), post(app, data=b"body")
        assert (first.status_code, first.data) == (201, b"\x00\xffbody")
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
        """A request without a key runs as usual, and the store is sent nothing."""
        store = FaultyStore()
        app = way.app(store=store)
        counting(app, way)
        assert [post(app, None).text for _ in range(3)] == ["run 1", "run 2", "run 3"]
        assert store.calls == []

    def test_first_costs_two_and_a_replay_one(self, way: WayIn) -> None:
        """A first request claims and completes, a replay claims, whichever the way."""
        store = FaultyStore()
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
        """F5: a key used on one view does not work on another, and never brings its response."""
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
        store = FaultyStore()
        app = way.app(store=store)
        counting(app, way)
        post(app)
        del store.calls[:]
        post(app, data=b"other")
        assert store.calls == ["claim"]
