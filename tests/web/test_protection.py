"""Protection: which views are protected, by whom, and with which settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, ClassVar

import pytest
from flask import Flask
from flask.views import MethodView

from flask_idempotent import Idempotent, OutsideRequest, SettingsError, idempotent
from flask_idempotent.web.protection import Kind, Layer
from flask_idempotent.web.state import state_of
from tests.conftest import MakeApp
from tests.support.clients import post, problem
from tests.support.faulty_store import FaultyStore
from tests.support.protections import add_view, protection_of
from tests.support.views import LazyView


class TestSettings:
    def test_layers(self, make_app: MakeApp) -> None:
        """The view's keywords win over hooks, hooks over the extension's keywords, these over
        the config's."""

        def hook(request: object) -> str:
            return "hook"

        config = {"IDEMPOTENT_TIMEOUT": 1, "IDEMPOTENT_EXPIRE": 2, "IDEMPOTENT_LEASE": 3}
        app = make_app(wide=False, config=config)
        Idempotent(app, expire=20, lease=30, scope=lambda request: "x").scope(hook)
        settings = state_of(app).protections.settings(Layer("view", {"lease": 300}))
        assert (settings.timeout, settings.expire, settings.lease) == (1.0, 20.0, 300.0)
        assert settings.scope is hook

    def test_resolved_once(self, make_app: MakeApp) -> None:
        """The settings of a view are resolved at its first use and stay."""
        app = make_app(wide=False)
        protections, view = state_of(app).protections, Layer("view", {"timeout": 5})
        first = protections.settings(view)
        app.config["IDEMPOTENT_EXPIRE"] = 7
        assert protections.settings(view) is first
        assert protections.settings(Layer("view", {"timeout": 5})).expire == 7.0

    def test_views_are_told_apart(self, make_app: MakeApp) -> None:
        """Keywords that are dropped leave no settings to others that come to their place."""
        protections = state_of(make_app(wide=False)).protections
        for timeout in range(100):
            assert protections.settings(Layer("view", {"timeout": timeout})).timeout == timeout

    def test_wrong_config_is_named(self, make_app: MakeApp) -> None:
        """A decorated view alone reports a wrong config at its first request."""
        app = make_app(wide=False, config={"IDEMPOTENT_LEASE": "long"})
        add_view(app, "view", idempotent(lambda: "ran"))
        app.config["PROPAGATE_EXCEPTIONS"] = True
        with pytest.raises(SettingsError, match="IDEMPOTENT_LEASE"):
            post(app, path="/view")


class TestOf:
    """What is asked in one place."""

    def test_undecorated(self, make_app: MakeApp) -> None:
        """A view without marks is protected by the extension, or not at all."""
        alone, below = make_app(wide=False), make_app(wide=True)
        for app in (alone, below):
            add_view(app, "view")
        assert (protection_of(alone, "view").kind, protection_of(alone, "view").source) == (
            Kind.UNPROTECTED,
            "",
        )
        assert (protection_of(below, "view").kind, protection_of(below, "view").source) == (
            "protected",
            "extension",
        )
        assert not protection_of(alone, "view").claims
        assert protection_of(below, "view").dispatched

    def test_decorated(self, make_app: MakeApp) -> None:
        """A decorated view is protected by itself, and nothing claims before it is called."""
        for wide in (False, True):
            app = make_app(wide=wide, config={"IDEMPOTENT_TIMEOUT": 7})
            add_view(app, "view", idempotent(expire=5)(lambda: "ran"))
            view = protection_of(app, "view")
            assert (view.kind, view.source) == (Kind.PROTECTED, "view")
            assert (view.claims, view.decorated, view.dispatched) == (True, True, False)
            assert (view.settings.expire, view.settings.timeout) == (5, 7)

    def test_method_that_is_not_tracked(self, make_app: MakeApp) -> None:
        """A protected view claims nothing for a method that is not tracked."""
        app = make_app(methods=["PUT"])
        add_view(app, "view")
        assert (protection_of(app, "view").kind, protection_of(app, "view").claims) == (
            Kind.PROTECTED,
            False,
        )

    def test_settings_are_shared(self, make_app: MakeApp) -> None:
        """Views with the same keywords share their settings."""
        app = make_app()
        for name in ("one", "two"):
            add_view(app, name)
            add_view(app, f"bare {name}", idempotent(lambda: "ran"))
        settings = {
            id(protection_of(app, name).settings) for name in app.view_functions if name != "static"
        }
        assert len(settings) <= 2

    def test_view_that_is_replaced(self, make_app: MakeApp) -> None:
        """A view that takes another's place is looked at again."""
        app = make_app()
        add_view(app, "view", idempotent.exempt(lambda: "exempt"))
        assert post(app, path="/view").text == "exempt"
        views = [lambda: "by the extension", idempotent(lambda: "decorated")]
        for number, view in enumerate(views):
            app.view_functions["view"] = view
            answers = [post(app, f"key-{number}", "/view") for _ in "12"]
            assert "Idempotent-Replayed" in answers[1].headers


class TestMarks:
    """What is nearer to the function that answers counts for more."""

    @pytest.fixture(params=[False, True], ids=["alone", "below the extension"])
    def app(self, request: pytest.FixtureRequest, make_app: MakeApp) -> Flask:
        return make_app(wide=request.param)

    def test_exempt_method_of_a_decorated_class(self, app: Flask) -> None:
        """A method may be exempt though its class is decorated."""
        runs = count(1)

        class Orders(MethodView):
            decorators: ClassVar = [idempotent]

            def post(self) -> str:
                return f"run {next(runs)}"

            @idempotent.exempt
            def put(self) -> str:
                return f"run {next(runs)}"

        app.add_url_rule("/", view_func=Orders.as_view("orders"))
        assert [post(app).text for _ in "12"] == ["run 1"] * 2
        assert [post(app, method="PUT").text for _ in "12"] == ["run 2", "run 3"]
        assert protection_of(app, "orders", "PUT").kind is Kind.EXEMPT

    def test_decorated_method_of_a_decorated_class(self, app: Flask) -> None:
        """A method's keywords win over those of its class, and the rest of these count."""
        store = FaultyStore()

        class Orders(MethodView):
            decorators: ClassVar = [idempotent(expire=5, required=True)]

            @idempotent(expire=6)
            def post(self) -> str:
                return f"{protection_of(app, 'orders').settings.expire}"

        app.add_url_rule("/", view_func=Orders.as_view("orders"))
        with state_of(app).using_store(store):
            assert [post(app).text for _ in "12"] == ["6.0", "6.0"]
            assert problem(post(app, None)) == (400, "key-missing")
        assert store.calls == ["claim", "complete", "claim"]

    def test_exempt_class(self, make_app: MakeApp) -> None:
        """A class may be exempt, what is derived from it too, and a method of it decorated."""
        app, runs = make_app(wide=True), count(1)

        @idempotent.exempt
        class Base(MethodView):
            def post(self) -> str:
                return f"run {next(runs)}"

        class Derived(Base):
            @idempotent
            def put(self) -> str:
                return f"run {next(runs)}"

        app.add_url_rule("/", view_func=Base.as_view("base"))
        app.add_url_rule("/derived", view_func=Derived.as_view("derived"))
        assert [post(app, path="/derived").text for _ in "12"] == ["run 1", "run 2"]
        assert [post(app, path="/derived", method="PUT").text for _ in "12"] == ["run 3"] * 2
        assert [post(app).text for _ in "12"] == ["run 4", "run 5"]

    def test_exempt_class_with_decorators(self, app: Flask) -> None:
        """A derived class may be exempt though its base has the decorator."""
        runs = count(1)

        class Base(MethodView):
            decorators: ClassVar = [idempotent]

        @idempotent.exempt
        class Log(Base):
            def post(self) -> str:
                return f"run {next(runs)}"

        app.add_url_rule("/", view_func=Log.as_view("log"))
        assert [post(app).text for _ in "12"] == ["run 1", "run 2"]

    def test_exempt_late(self, make_app: MakeApp) -> None:
        """An exemption counts from the moment that it is made."""
        app, runs = make_app(wide=True), count(1)

        def view() -> str:
            return f"run {next(runs)}"

        add_view(app, "view", view)
        assert [post(app, path="/view").text for _ in "12"] == ["run 1"] * 2
        idempotent.exempt(view)
        assert [post(app, path="/view").text for _ in "12"] == ["run 2", "run 3"]

    @pytest.mark.parametrize("wrap", [lambda view: LazyView(lambda: view), partial])
    def test_lazy_and_partial_views(self, app: Flask, wrap: Callable[[Any], Any]) -> None:
        """A view that is imported at its first request has its own settings, and so has one
        that stands in a ``functools.partial``."""
        runs = count(1)

        def view() -> str:
            return f"run {next(runs)}"

        add_view(
            app, "decorated", wrap(idempotent(scope=lambda request: request.headers["X-Own"])(view))
        )
        add_view(app, "exempt", wrap(idempotent.exempt(lambda: view())))
        answers = [post(app, path="/decorated", headers={"X-Own": own}).text for own in "aab"]
        assert answers == ["run 1", "run 1", "run 2"]
        assert [post(app, path="/exempt").text for _ in "12"] == ["run 3", "run 4"]

    def test_lazy_view_is_imported_when_it_is_called(self, make_app: MakeApp) -> None:
        """The first request to another view imports no lazy one, and one that fails is tried
        again."""
        app, imported = make_app(), []

        def find() -> Any:
            imported.append("tried")
            if len(imported) == 1:
                raise ImportError("not there yet")
            return idempotent(lambda: "ran")

        add_view(app, "lazy", LazyView(find))
        add_view(app, "other")
        post(app, "other", "/other")
        assert imported == []
        assert post(app, path="/lazy").status_code == 500
        assert [post(app, path="/lazy").text for _ in "12"] == ["ran", "ran"]


class TestOutsideRequests:
    """A decorated function that is called without a request that was routed to a view."""

    @staticmethod
    @idempotent
    def bare() -> str:
        return "ran"

    @staticmethod
    @idempotent(required=True)
    def requiring() -> str:
        return "ran"

    def test_no_request(self, make_app: MakeApp) -> None:
        """A script or a task is refused with an error that says what to call."""
        with pytest.raises(OutsideRequest, match=r"bare was called outside .* its __wrapped__"):
            self.bare()
        with make_app(wide=False).app_context(), pytest.raises(RuntimeError):
            self.bare()
        assert self.bare.__wrapped__() == "ran"  # type: ignore[attr-defined]

    def test_key_that_is_required(self, make_app: MakeApp) -> None:
        """What requires a key does not run where none is looked for."""
        with make_app(wide=False).test_request_context("/nowhere"):
            for _ in "12":
                with pytest.raises(OutsideRequest, match="requires a key"):
                    self.requiring()

    def test_routed_request(self, make_app: MakeApp) -> None:
        """A test of a view's function has the request that it makes."""
        app = make_app(wide=False)
        add_view(app, "view", self.bare)
        with app.test_request_context("/view", method="POST"):
            assert self.bare() == "ran"
