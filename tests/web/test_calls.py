"""Decorated functions that are called again, one after the other, or awaited in one request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import wraps
from itertools import count
from typing import Any

import pytest
from flask import Flask, Response, abort, request
from flask.views import MethodView
from werkzeug.exceptions import HTTPException, InternalServerError, NotFound

from flask_idempotent import current_claim, idempotent
from flask_idempotent.web.state import EXTENSION_KEY, AppState
from tests.cli.harness import run
from tests.conftest import MakeApp
from tests.support.clients import Gate, post, problem
from tests.support.faulty_store import FaultyStore
from tests.support.request_bodies import URLENCODED, with_length

Background = Callable[..., Future[Any]]


class Deadlock(Exception):
    """What a database raises when it gave up a transaction."""


def retrying(view: Callable[..., Any]) -> Callable[..., Any]:
    """Call a view again when it met a deadlock, as a decorator for databases does."""

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return view(*args, **kwargs)
        except Deadlock:
            return view(*args, **kwargs)

    return wrapper


def text(response: Any) -> str:
    """The body of what a decorated helper returns: a response, with a key or without."""
    assert isinstance(response, Response)
    return response.get_data(as_text=True)


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def app(make_app: MakeApp, store: FaultyStore) -> Flask:
    """An application that protects only what is decorated."""
    app = make_app(wide=False, config={"PROPAGATE_EXCEPTIONS": False})
    app.extensions[EXTENSION_KEY] = AppState(app, store=store)
    return app


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


class TestHelpers:
    """Decorated functions that a view calls, which no decorator protects itself."""

    @pytest.fixture
    def runs(self, app: Flask) -> list[str]:
        runs: list[str] = []

        @idempotent
        def reserve() -> str:
            runs.append("reserve")
            return f"reserved {runs.count('reserve')}"

        @idempotent
        def charge() -> str:
            runs.append("charge")
            if request.args.get("fail") == "yes" and runs.count("charge") == 1:
                raise Deadlock
            return f"charged {runs.count('charge')}"

        @app.post("/")
        def view() -> str:
            first = text(reserve()) if request.args.get("reserve") != "no" else "-"
            return f"{first}, {text(charge())}"

        return runs

    def test_each_has_its_own_answer(self, app: Flask, runs: list[str]) -> None:
        """Each runs once and gets its own answer, in the first request and in a retry."""
        assert [post(app).text for _ in range(2)] == ["reserved 1, charged 1"] * 2
        assert runs == ["reserve", "charge"]

    @pytest.mark.parametrize(
        "options",
        [
            {"key": lambda request: request.form["id"]},
            {"scope": lambda request: request.form["id"]},
            {"fingerprint": lambda request: request.get_data()},
            {"ignore_fields": ["other"]},
        ],
        ids=lambda options: next(iter(options)),
    )
    @pytest.mark.parametrize("order", [[0, 1], [1, 0]])
    def test_f8_other_settings(self, app: Flask, options: dict[str, Any], order: list[int]) -> None:
        """F8: one with another key, caller or fingerprint compares the whole body too, which
        those before it have read."""
        runs: list[bytes] = []

        def spend() -> str:
            runs.append(request.stream.read())
            return f"run {len(runs)}"

        helpers = [idempotent(spend), idempotent(**options)(lambda: spend())]
        app.post("/")(lambda: ", ".join(text(helpers[number]()) for number in order))
        for amount, status in ((b"1", 200), (b"1000000", 422), (b"1", 200)):
            environ = {"CONTENT_TYPE": URLENCODED, **with_length(b"id=4&pay=" + amount)}
            answer = post(app, environ_overrides=environ)
            assert answer.status_code == status
        assert answer.text == "run 1, run 2"
        assert runs == [b"id=4&pay=1", b""]

    def test_without_a_key(self, app: Flask, runs: list[str]) -> None:
        """Without a key each runs each time, and returns what it returns with one."""
        texts = [post(app, None).text for _ in range(2)]
        assert texts == ["reserved 1, charged 1", "reserved 2, charged 2"]

    def test_goes_on_where_it_failed(self, app: Flask, runs: list[str]) -> None:
        """A retry gets what was done already and runs what was not."""
        assert post(app, path="/?fail=yes").status_code == 500
        assert post(app, path="/?fail=yes").text == "reserved 1, charged 2"
        assert runs == ["reserve", "charge", "charge"]

    def test_order_does_not_matter(self, app: Flask, runs: list[str]) -> None:
        """One that is called first in a retry does not get the answer of another.

        Another path is another request, so the fingerprint is left out here.
        """
        app.extensions[EXTENSION_KEY].hooks.override("fingerprint", lambda request: "same")
        assert post(app, path="/?fail=yes").status_code == 500
        assert post(app, path="/?reserve=no").text == "-, charged 2"

    def test_alone(self, app: Flask) -> None:
        """One alone is protected too."""
        runs = count(1)
        helper = idempotent(lambda: f"run {next(runs)}")
        app.add_url_rule("/", "view", lambda: text(helper()), methods=["POST"])
        assert [post(app).text for _ in range(2)] == ["run 1", "run 1"]

    def test_streamed_answer(self, app: Flask) -> None:
        """What one streams is its own answer, though it is stored when all have run."""
        runs = count(1)

        @idempotent
        def export() -> Response:
            run = next(runs)

            def rows() -> Iterator[str]:
                yield f"export {run}"

            return Response(rows())

        @idempotent
        def note() -> str:
            return f"note {next(runs)}"

        @app.post("/")
        def view() -> Response:
            exported = export()
            exported.headers["X-Note"] = text(note())
            return exported

        answers = [post(app) for _ in range(2)]
        assert [(a.text, a.headers["X-Note"]) for a in answers] == [("export 1", "note 2")] * 2

    def test_inside_a_protected_view(self, app: Flask, store: FaultyStore) -> None:
        """One that a protected view calls is a part of it, and makes no claim."""
        helper = idempotent(lambda: "helper")
        app.add_url_rule("/", "view", idempotent(lambda: helper() + helper()), methods=["POST"])
        assert [post(app).text for _ in range(2)] == ["helperhelper"] * 2
        assert store.calls == ["claim", "complete", "claim"]

    def test_views_keep_the_keys_own_record(self, app: Flask, store: FaultyStore) -> None:
        """A method, and a view below another decorator, are the views themselves."""

        class Orders(MethodView):
            @idempotent
            def post(self) -> str:
                return "method"

        app.add_url_rule("/method", view_func=Orders.as_view("method"))
        app.add_url_rule("/below", "below", retrying(idempotent(lambda: "b")), methods=["POST"])
        app.add_url_rule("/plain", "plain", idempotent(lambda: "p"), methods=["POST"])
        for path in ("/method", "/below", "/plain"):
            post(app, path=path)
            (name,) = store.scan("")
            assert name in run(app, "show", "key-one").stdout, path
            store.delete([name])


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
