"""The decorator: where it may stand, what it leaves alone, and whose settings count."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from itertools import count
from typing import Any

import pytest
from flask import Flask, request
from flask.views import MethodView, View

from flask_idempotent import SettingsError, current_claim, idempotent
from tests.conftest import MakeApp
from tests.support.clients import post, problem
from tests.support.faulty_store import Clock, FaultyStore

TWICE = ["run 1", "run 1"]


def send_twice(app: Flask, **options: Any) -> list[str]:
    return [post(app, **options).text for _ in range(2)]


@pytest.fixture(params=[False, True], ids=["alone", "below the extension"])
def app(request: pytest.FixtureRequest, make_app: MakeApp) -> Flask:
    return make_app(wide=request.param)


class TestIdempotent:
    def test_bare_and_with_keywords(self, app: Flask) -> None:
        """The decorator is used bare, with an empty call, and with keywords."""
        runs = {name: count(1) for name in ("/bare", "/empty", "/keywords")}

        def view() -> str:
            return f"run {next(runs[request.path])}"

        app.add_url_rule("/bare", "bare", idempotent(view), methods=["POST"])
        app.add_url_rule("/empty", "empty", idempotent()(view), methods=["POST"])
        app.add_url_rule("/keywords", "keywords", idempotent(expire=9)(view), methods=["POST"])
        for path in runs:
            assert send_twice(app, key=path, path=path) == TWICE

    def test_keeps_what_a_function_is(self) -> None:
        """A decorated view keeps its name, its docstring and the function inside."""

        def view(number: int) -> str:
            """Answer."""
            return ""

        decorated = idempotent(view)
        assert (decorated.__name__, decorated.__doc__) == ("view", "Answer.")
        assert decorated.__wrapped__ is view  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            ({"expires": 5}, "expires= is not a setting. Did you mean expire?"),
            ({"redis_url": "memory://"}, "redis_url= is not a setting"),
            ({"timeout": "5"}, "timeout= must be a number of seconds"),
            ({"expire": 0}, "expire= must be more than 0"),
            ({"on_crash": "again"}, "on_crash= must be 'rerun', 'hold' or a"),
            ({"methods": "POST"}, "methods= must be a tuple"),
            ({"key": "X-Key"}, "key= must be a function"),
        ],
    )
    def test_wrong_setting(self, overrides: dict[str, Any], message: str) -> None:
        """A wrong name, type or range fails where it is written, and names the setting."""
        with pytest.raises(SettingsError, match=message.replace("(", r"\(")):
            idempotent(**overrides)

    def test_not_a_view(self) -> None:
        """A value without its keyword is a clear error."""
        with pytest.raises(SettingsError, match=r"alone or as in .*, not on 240"):
            idempotent(240)  # type: ignore[call-overload]

    def test_one_view_in_two_apps(self, make_app: MakeApp) -> None:
        """A view of a module that two applications use has a record in each."""
        runs = count(1)
        view = idempotent(lambda: f"run {next(runs)}")
        apps = [make_app(wide=False), make_app(wide=False)]
        for app in apps:
            app.add_url_rule("/", "view", view, methods=["POST"])
        assert [post(app).text for app in apps * 2] == ["run 1", "run 2"] * 2

    def test_f1_one_view_on_two_addresses(self, app: Flask) -> None:
        """F1: one view on two addresses is two operations under one key."""
        view = idempotent(lambda: "ran")
        app.add_url_rule("/a", "view", view, methods=["POST"])
        app.add_url_rule("/b", "view", view, methods=["POST"])
        assert post(app, path="/a").text == "ran"
        assert problem(post(app, path="/b")) == (422, "key-reused")

    def test_undecorated_view_is_left_alone(self, make_app: MakeApp) -> None:
        """Without the extension only decorated views are protected."""
        app, runs = make_app(wide=False), count(1)
        app.add_url_rule("/", "view", lambda: f"run {next(runs)}", methods=["POST"])
        assert send_twice(app) == ["run 1", "run 2"]


class TestClassViews:
    def test_decorators_of_a_class(self, app: Flask) -> None:
        """``MethodView.decorators`` protects every method of a class."""
        runs = count(1)

        class Orders(MethodView):
            decorators = [idempotent]  # noqa: RUF012

            def post(self, number: int) -> str:
                return f"run {next(runs)}"

        app.add_url_rule("/<int:number>", view_func=Orders.as_view("orders"))
        assert send_twice(app, path="/7") == TWICE

    def test_decorators_of_an_async_class(self, app: Flask) -> None:
        """An async method is protected likewise."""
        runs = count(1)

        class Orders(MethodView):
            decorators = [idempotent(expire=60)]  # noqa: RUF012

            async def post(self) -> str:
                return f"run {next(runs)}"

        app.add_url_rule("/", view_func=Orders.as_view("orders"))
        assert send_twice(app) == TWICE

    def test_decorators_of_a_plain_view_class(self, app: Flask) -> None:
        """A ``View`` that is no ``MethodView`` is protected likewise."""
        runs = count(1)

        class Order(View):
            methods = ["POST"]  # noqa: RUF012
            decorators = [idempotent]  # noqa: RUF012

            def dispatch_request(self) -> str:
                return f"run {next(runs)}"

        app.add_url_rule("/", view_func=Order.as_view("order"))
        assert send_twice(app) == TWICE

    def test_one_decorated_method(self, app: Flask) -> None:
        """A single method may be decorated, and its keywords count, below the extension too."""
        runs = count(1)

        class Orders(MethodView):
            @idempotent(required=True)
            def post(self) -> str:
                return f"run {next(runs)}"

        app.add_url_rule("/", view_func=Orders.as_view("orders"))
        assert send_twice(app) == TWICE
        assert problem(post(app, None)) == (400, "key-missing")


class TestNesting:
    @pytest.fixture
    def store(self) -> FaultyStore:
        return FaultyStore()

    @pytest.fixture
    def wide(self, make_app: MakeApp, store: FaultyStore) -> Flask:
        return make_app(store=store, timeout=1)

    def test_decorated_view_calls_another(self, wide: Flask, store: FaultyStore) -> None:
        """A decorated view that calls a decorated one makes one claim."""

        @idempotent
        def inner() -> str:
            return f"inner of {current_claim.key}"

        wide.add_url_rule("/", "outer", idempotent(lambda: "outer, " + inner()), methods=["POST"])
        wide.add_url_rule("/inner", "inner", inner, methods=["POST"])
        assert send_twice(wide) == ["outer, inner of key-one"] * 2
        assert store.calls == ["claim", "complete", "claim"]

    def test_decorated_twice(self, wide: Flask, store: FaultyStore) -> None:
        """A view decorated twice makes one claim."""
        view = idempotent(idempotent(expire=9)(lambda: "ran"))
        wide.add_url_rule("/", "view", view, methods=["POST"])
        assert send_twice(wide) == ["ran", "ran"]
        assert store.calls == ["claim", "complete", "claim"]

    @pytest.mark.parametrize("polite", [True, False], ids=["with wraps", "without wraps"])
    def test_below_another_decorator(self, wide: Flask, store: FaultyStore, polite: bool) -> None:
        """Below another decorator and the extension one claim is made, and nobody waits."""

        def logged(view: Callable[..., str]) -> Callable[..., str]:
            def wrapper() -> str:
                return f"logged {view()!r:.9}"

            return wraps(view)(wrapper) if polite else wrapper

        view = logged(idempotent(lambda: "ran"))
        wide.add_url_rule("/", "view", view, methods=["POST"])
        answers = send_twice(wide)
        assert answers[0].startswith("logged")
        assert answers[0] == answers[1]
        assert store.calls == ["claim", "complete", "claim"]


class TestPrecedence:
    def test_view_wins_over_the_extension(self, make_app: MakeApp) -> None:
        """A keyword of the view wins over the extension's, which wins over the config's."""
        clock = Clock()
        store = FaultyStore(clock)
        app = make_app(store=store, config={"IDEMPOTENT_EXPIRE": 1000}, expire=100)
        runs = count(1)

        def view() -> str:
            return str(next(runs))

        app.add_url_rule("/decorated", "a", idempotent(expire=10)(view), methods=["POST"])
        app.add_url_rule("/bare", "b", idempotent(view), methods=["POST"])
        app.add_url_rule("/plain", "c", view, methods=["POST"])
        for path, expire in {"/decorated": 10, "/bare": 100, "/plain": 100}.items():
            runs = count(1)
            seen = [post(app, path, path).text]
            clock.now += expire - 1
            seen.append(post(app, path, path).text)
            clock.now += 2
            seen.append(post(app, path, path).text)
            assert seen == ["1", "1", "2"]

    def test_config_counts_without_the_extension(self, make_app: MakeApp) -> None:
        """A decorated view alone is governed by the application's config."""
        app = make_app(wide=False, config={"IDEMPOTENT_REQUIRED": True})
        app.add_url_rule("/", "view", idempotent(lambda: "ran"), methods=["POST"])
        app.add_url_rule(
            "/free", "free", idempotent(required=False)(lambda: "ran"), methods=["POST"]
        )
        assert problem(post(app, None)) == (400, "key-missing")
        assert post(app, None, "/free").text == "ran"

    def test_config_is_read_at_the_first_request(self, make_app: MakeApp) -> None:
        """What the config gets after the view is decorated counts as well."""
        app = make_app(wide=False)
        app.add_url_rule("/", "view", idempotent(lambda: "ran"), methods=["POST"])
        app.config["IDEMPOTENT_HEADERS"] = ("X-Own",)
        app.config["IDEMPOTENT_REQUIRED"] = True
        assert post(app).status_code == 400
        assert post(app, None, headers={"X-Own": "key"}).text == "ran"
