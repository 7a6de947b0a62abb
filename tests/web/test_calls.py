"""Decorated functions that are called again, one after the other, or awaited in one request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import wraps
from itertools import count
from typing import Any

import pytest
from flask import Flask, Response, abort, request
from werkzeug.exceptions import HTTPException, InternalServerError, NotFound

from flask_idempotent import current_claim, idempotent
from tests.conftest import MakeApp
from tests.support.clients import Gate, post, problem
from tests.support.faulty_store import FaultyStore
from tests.support.retries import Deadlock, retrying, text

Background = Callable[..., Future[Any]]


@pytest.fixture
def app(decorated_app: Flask) -> Flask:
    return decorated_app


class TestCalledAgain:
    def test_runs_again_with_a_claim(self, app: Flask, store: FaultyStore) -> None:
        """A view that failed is claimed again, and a retry gets the answer of the second call."""
        runs = count(1)

        @app.post("/")
        @retrying
        @idempotent
        def view() -> str:
            run = next(runs)
            assert current_claim.key == "key-one"
            if run == 1:
                raise Deadlock
            return f"run {run}"

        answers = [post(app) for _ in range(2)]
        assert [answer.text for answer in answers] == ["run 2", "run 2"]
        assert answers[1].headers["Idempotent-Replayed"] == "true"
        assert store.calls == ["claim", "release", "claim", "complete", "claim"]

    @pytest.mark.parametrize("reads", ["stream", "data", "form"])
    def test_fingerprint_is_the_first_calls(self, app: Flask, reads: str) -> None:
        """The body is spent by then: the fingerprint is that of the first call."""
        runs = count(1)

        @app.post("/")
        @retrying
        @idempotent
        def view() -> str:
            read = {"stream": request.stream.read, "data": request.get_data, "form": dict}
            read[reads]()
            if next(runs) == 1:
                raise Deadlock
            return "ran"

        options = {"data": "body"} if reads != "form" else {"data": {"a": "b"}}
        assert [post(app, **options).text for _ in range(2)] == ["ran", "ran"]
        assert problem(post(app, data="other")) == (422, "key-reused")

    def test_what_is_stored_is_the_answer(self, app: Flask) -> None:
        """A decorator that calls again after an answer gets that answer: the view ran once."""
        runs = count(1)

        def twice(view: Callable[[], Response]) -> Callable[[], Response]:
            return wraps(view)(lambda: (view(), view())[1])

        app.post("/")(twice(idempotent(lambda: f"run {next(runs)}")))
        assert [post(app).text for _ in range(2)] == ["run 1", "run 1"]
        assert next(runs) == 2

    def test_another_comes_between(self, app: Flask, background: Background) -> None:
        """Where another request takes the key between the calls, the second call waits for it."""
        gate, runs, between = Gate(), count(1), []

        def retrying_later(view: Callable[[], Response]) -> Callable[[], Response]:
            @wraps(view)
            def wrapper() -> Response:
                try:
                    return view()
                except Deadlock:
                    between.append(background(post, app))
                    gate.reached()
                    gate.open()
                    return view()

            return wrapper

        @app.post("/")
        @retrying_later
        @idempotent
        def view() -> str:
            run = next(runs)
            if run == 1:
                raise Deadlock
            gate()
            return f"run {run}"

        answer = post(app)
        assert (answer.text, between[0].result().text) == ("run 2", "run 2")
        assert answer.headers["Idempotent-Replayed"] == "true"

    def test_keeps_failing(self, app: Flask, store: FaultyStore) -> None:
        """Where the second call fails as well the key is free."""

        @app.post("/")
        @retrying
        @idempotent
        def view() -> str:
            raise Deadlock

        assert post(app).status_code == 500
        assert list(store.scan("")) == []


class TestAsync:
    def test_awaited_in_a_protected_view(self, app: Flask, store: FaultyStore) -> None:
        """An async view that awaits a decorated one makes one claim."""
        runs = count(1)

        @idempotent
        async def inner() -> str:
            return f"inner {next(runs)} of {current_claim.key}"

        @app.post("/")
        @idempotent
        async def outer() -> str:
            return "outer, " + await inner()

        assert [post(app).text for _ in range(2)] == ["outer, inner 1 of key-one"] * 2
        assert store.calls == ["claim", "complete", "claim"]

    def test_awaited_in_another_view(self, app: Flask) -> None:
        """Awaited by a view that nothing protects, each is protected by itself."""
        runs = count(1)

        @idempotent
        async def one() -> str:
            return f"one {next(runs)}"

        @idempotent
        async def two() -> str:
            return f"two {next(runs)}"

        @app.post("/")
        async def view() -> str:
            return text(await one()) + ", " + text(await two())

        assert [post(app).text for _ in range(2)] == ["one 1, two 2"] * 2
        assert [post(app, None).text for _ in range(2)] == ["one 3, two 4", "one 5, two 6"]

    def test_in_the_same_loop(self, app: Flask) -> None:
        """What is awaited runs in the event loop of the view that awaits it."""
        loops = []

        @idempotent
        async def inner() -> str:
            loops.append(asyncio.get_running_loop())
            return ""

        @app.post("/")
        async def view() -> str:
            loops.append(asyncio.get_running_loop())
            await inner()
            return ""

        post(app)
        assert loops[0] is loops[1]

    def test_failure_is_raised(self, app: Flask) -> None:
        """What a decorated one raises reaches the view that awaits it."""

        @idempotent
        async def inner() -> str:
            raise Deadlock

        @app.post("/")
        async def view() -> str:
            try:
                await inner()
            except Deadlock:
                return "caught"
            return ""

        assert post(app).text == "caught"


class TestErrorHandlers:
    """An error handler that raises itself gives what it gives in an application without us."""

    def make(self, app: Flask, decorate: Callable[[Any], Any]) -> list[str]:
        seen: list[str] = []

        @app.errorhandler(ValueError)
        def on_value_error(error: ValueError) -> str:
            seen.append("ValueError")
            how = request.args["how"]
            if how == "again":
                raise error
            if how == "abort":
                abort(404)
            raise KeyError(how)

        @app.errorhandler(KeyError)
        def on_key_error(error: KeyError) -> str:
            seen.append("KeyError")
            return "handled twice"

        @app.errorhandler(NotFound)
        def on_not_found(error: NotFound) -> tuple[str, int]:
            seen.append("NotFound")
            return "not found", 404

        @app.errorhandler(InternalServerError)
        def on_internal(error: InternalServerError) -> tuple[str, int]:
            seen.append(f"500 of {type(error.original_exception).__name__}")
            return "sorry", 500

        @app.post("/")
        @decorate
        def view() -> str:
            raise ValueError

        return seen

    @pytest.mark.parametrize("how", ["another", "again", "abort"])
    @pytest.mark.parametrize("wide", [False, True])
    def test_like_bare_flask(self, make_app: MakeApp, wide: bool, how: str) -> None:
        """Handlers are called as often, and the answer is the same; nothing is stored."""
        config = {"PROPAGATE_EXCEPTIONS": False}
        bare, app = Flask("bare"), make_app(wide=wide, config=config)
        bare.config.update(config)
        expected = self.make(bare, lambda view: view)
        seen = self.make(app, (lambda view: view) if wide else idempotent)
        for _ in "12":
            theirs, ours = (post(each, path=f"/?how={how}") for each in (bare, app))
            assert (ours.status_code, ours.data) == (theirs.status_code, theirs.data)
            assert "Idempotent-Replayed" not in ours.headers
        assert seen == expected

    def test_unhandled_error_is_seen_once(self, app: Flask) -> None:
        """A handler that lets everything but HTTP errors rise is asked once."""
        asked = []

        @app.errorhandler(Exception)
        def everything(error: Exception) -> Any:
            if isinstance(error, HTTPException):
                return error
            asked.append(error)
            raise error

        @app.post("/")
        @idempotent
        def view() -> str:
            raise Deadlock

        @app.post("/other")
        def other() -> str:
            raise Deadlock

        assert [post(app).status_code, len(asked)] == [500, 1]
        assert [post(app, path="/other").status_code, len(asked)] == [500, 2]
