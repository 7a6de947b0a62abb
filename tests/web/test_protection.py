"""Protection: which views are protected, by whom, and with which settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, ClassVar

import pytest
from flask import Blueprint, Flask, request
from flask.views import MethodView

from flask_idempotent import Idempotent, OutsideRequest, SettingsError, idempotent
from flask_idempotent.web.protection import Kind, Layer, Protection
from flask_idempotent.web.state import state_of
from tests.conftest import MakeApp
from tests.support.clients import post, problem
from tests.support.faulty_store import FaultyStore
from tests.support.views import LazyView


def found(app: Flask, endpoint: str, method: str = "POST") -> Protection:
    return state_of(app).protections.of(endpoint, method)


def add(app: Flask | Blueprint, name: str, view: Any = None) -> None:
    """Add a view that answers with the number of its run, or the given one."""
    runs = count(1)
    app.add_url_rule(f"/{name}", name, view or (lambda: f"run {next(runs)}"), methods=["POST"])


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
        """A decorated view alone tells of a wrong config at its first request."""
        app = make_app(wide=False, config={"IDEMPOTENT_LEASE": "long"})
        add(app, "view", idempotent(lambda: "ran"))
        app.config["PROPAGATE_EXCEPTIONS"] = True
        with pytest.raises(SettingsError, match="IDEMPOTENT_LEASE"):
            post(app, path="/view")


class TestOf:
    """What is asked in one place."""

    def test_undecorated(self, make_app: MakeApp) -> None:
        """A view without marks is protected by the extension, or not at all."""
        alone, below = make_app(wide=False), make_app(wide=True)
        for app in (alone, below):
            add(app, "view")
        assert (found(alone, "view").kind, found(alone, "view").source) == (Kind.UNPROTECTED, "")
        assert (found(below, "view").kind, found(below, "view").source) == (
            "protected",
            "extension",
        )
        assert not found(alone, "view").claims
        assert found(below, "view").dispatched

    def test_decorated(self, make_app: MakeApp) -> None:
        """A decorated view is protected by itself, and nothing claims before it is called."""
        for wide in (False, True):
            app = make_app(wide=wide, config={"IDEMPOTENT_TIMEOUT": 7})
            add(app, "view", idempotent(expire=5)(lambda: "ran"))
            view = found(app, "view")
            assert (view.kind, view.source) == (Kind.PROTECTED, "view")
            assert (view.claims, view.decorated, view.dispatched) == (True, True, False)
            assert (view.settings.expire, view.settings.timeout) == (5, 7)

    def test_method_that_is_not_tracked(self, make_app: MakeApp) -> None:
        """A protected view claims nothing for a method that is not tracked."""
        app = make_app(methods=["PUT"])
        add(app, "view")
        assert (found(app, "view").kind, found(app, "view").claims) == (Kind.PROTECTED, False)

    def test_settings_are_shared(self, make_app: MakeApp) -> None:
        """Views with the same keywords share their settings."""
        app = make_app()
        for name in ("one", "two"):
            add(app, name)
            add(app, f"bare {name}", idempotent(lambda: "ran"))
        settings = {
            id(found(app, name).settings) for name in app.view_functions if name != "static"
        }
        assert len(settings) <= 2

    def test_view_that_is_replaced(self, make_app: MakeApp) -> None:
        """A view that takes another's place is looked at anew."""
        app = make_app()
        add(app, "view", idempotent.exempt(lambda: "exempt"))
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
        assert found(app, "orders", "PUT").kind is Kind.EXEMPT

    def test_decorated_method_of_a_decorated_class(self, app: Flask) -> None:
        """A method's keywords win over those of its class, and the rest of these count."""
        store = FaultyStore()

        class Orders(MethodView):
            decorators: ClassVar = [idempotent(expire=5, required=True)]

            @idempotent(expire=6)
            def post(self) -> str:
                return f"{found(app, 'orders').settings.expire}"

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

        add(app, "view", view)
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

        add(
            app, "decorated", wrap(idempotent(scope=lambda request: request.headers["X-Own"])(view))
        )
        add(app, "exempt", wrap(idempotent.exempt(lambda: view())))
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

        add(app, "lazy", LazyView(find))
        add(app, "other")
        post(app, "other", "/other")
        assert imported == []
        assert post(app, path="/lazy").status_code == 500
        assert [post(app, path="/lazy").text for _ in "12"] == ["ran", "ran"]


class TestBlueprints:
    """``idempotent.protect`` and ``idempotent.exempt`` take blueprints."""

    @pytest.mark.parametrize("wide", [False, True])
    def test_protected(self, make_app: MakeApp, wide: bool) -> None:
        """Its views are protected with its keywords; others are left to the extension."""
        app, shop = make_app(wide=wide), Blueprint("shop", "shop")
        assert idempotent.protect(shop, required=True) is shop
        add(shop, "orders")
        add(app, "other")
        app.register_blueprint(shop)
        assert [post(app, path="/orders").text for _ in "12"] == ["run 1"] * 2
        assert problem(post(app, None, "/orders")) == (400, "key-missing")
        assert [post(app, "b", "/other").text for _ in "12"] == [
            "run 1",
            "run 1" if wide else "run 2",
        ]
        assert found(app, "shop.orders").source == "blueprint shop"
        assert post(app, None, "/other").status_code == 200

    def test_behind_its_own_functions(self, make_app: MakeApp) -> None:
        """A protected blueprint's ``before_request`` comes before the key, replays included."""
        app, shop = make_app(wide=False), Blueprint("shop", "shop")
        idempotent.protect(shop)
        add(shop, "orders")
        shop.before_request(lambda: None if "X-Who" in request.headers else ("who?", 401))
        app.register_blueprint(shop)
        known = {"X-Who": "me"}
        answers = [post(app, path="/orders", headers=h).text for h in ({}, known, {}, known)]
        assert answers == ["who?", "run 1", "who?", "run 1"]

    @pytest.mark.parametrize("order", ["extension first", "extension last"])
    def test_keywords(self, make_app: MakeApp, order: str) -> None:
        """A view's keywords win over its blueprint's, these over the extension's."""
        app, shop = make_app(wide=False), Blueprint("shop", "shop")
        extension = Idempotent(expire=1, lease=1, timeout=1)
        if order == "extension first":
            extension.init_app(app)
        idempotent.protect(shop, expire=2, lease=2)
        add(shop, "decorated", idempotent(expire=3)(lambda: "ran"))
        add(shop, "plain")
        app.register_blueprint(shop)
        if order == "extension last":
            extension.init_app(app)
        for name, expected in {"decorated": (3, 2, 1), "plain": (2, 2, 1)}.items():
            settings = found(app, f"shop.{name}").settings
            assert (settings.expire, settings.lease, settings.timeout) == expected
            assert [post(app, name, f"/{name}").status_code for _ in "12"] == [200, 200]

    def test_nested(self, make_app: MakeApp) -> None:
        """A blueprint's keywords count in those nested in it, whose own win; so with exemptions."""
        app = make_app(wide=True)
        names = ("api", "inner", "free", "again")
        api, inner, free, again = (Blueprint(name, name, url_prefix=f"/{name}") for name in names)
        idempotent.protect(api, expire=1, lease=1)
        idempotent.protect(inner, expire=2)
        idempotent.exempt(free)
        idempotent.protect(again, expire=3)
        free.register_blueprint(again)
        for nested in (inner, free):
            api.register_blueprint(nested)
        for blueprint in (api, inner, free, again):
            add(blueprint, "view")
        app.register_blueprint(api)
        results = {
            endpoint: (found(app, endpoint).kind, found(app, endpoint).source)
            for endpoint in ("api.view", "api.inner.view", "api.free.view", "api.free.again.view")
        }
        assert results == {
            "api.view": ("protected", "blueprint api"),
            "api.inner.view": ("protected", "blueprint api.inner"),
            "api.free.view": ("exempt", "blueprint api.free"),
            "api.free.again.view": ("protected", "blueprint api.free.again"),
        }
        inner_settings = found(app, "api.inner.view").settings
        assert (inner_settings.expire, inner_settings.lease) == (2, 1)
        # An exemption lies between: what is around it does not count any more.
        assert found(app, "api.free.again.view").settings.lease == 30
        assert [post(app, path="/api/free/view").text for _ in "12"] == ["run 1", "run 2"]
        assert [post(app, path="/api/free/again/view").text for _ in "12"] == ["run 1"] * 2

    def test_several_names_and_applications(self, make_app: MakeApp) -> None:
        """A blueprint that is registered under several names is protected under each."""
        shop = idempotent.protect(Blueprint("shop", "shop"))
        add(shop, "orders")
        for app in (make_app(wide=False), make_app(wide=False, name="other")):
            app.register_blueprint(shop, url_prefix="/one")
            app.register_blueprint(shop, url_prefix="/two", name="two")
            for path in ("/one/orders", "/two/orders"):
                first, second = [post(app, path, path) for _ in "12"]
                assert (first.text, second.headers["Idempotent-Replayed"]) == (second.text, "true")

    def test_exempt(self, make_app: MakeApp) -> None:
        """An exempt blueprint is left alone, but for what is decorated in it, and may be late."""
        app, shop, runs = make_app(wide=True), Blueprint("shop", "shop"), count(1)
        add(shop, "plain")
        add(shop, "decorated", idempotent(lambda: f"run {next(runs)}"))
        app.register_blueprint(shop)
        assert idempotent.exempt(shop) is shop
        assert [post(app, path="/plain").text for _ in "12"] == ["run 1", "run 2"]
        assert [post(app, path="/decorated").text for _ in "12"] == ["run 1"] * 2
        assert found(app, "shop.plain").source == "blueprint shop"

    def test_exempt_view(self, make_app: MakeApp) -> None:
        """A view of a protected blueprint may be exempt."""
        app, shop, runs = make_app(wide=False), Blueprint("shop", "shop"), count(1)
        idempotent.protect(shop)
        add(shop, "log", idempotent.exempt(lambda: f"run {next(runs)}"))
        app.register_blueprint(shop)
        assert [post(app, path="/log").text for _ in "12"] == ["run 1", "run 2"]

    def test_decorated_helper(self, make_app: MakeApp) -> None:
        """A decorated function that a protected blueprint's view calls makes no second claim."""
        store = FaultyStore()
        app, shop = make_app(wide=False), idempotent.protect(Blueprint("shop", "shop"))
        helper = idempotent(lambda: {"placed": True})
        add(shop, "orders", lambda: f"{helper()['placed']}")
        app.register_blueprint(shop)
        with state_of(app).using_store(store):
            assert [post(app, path="/orders").text for _ in "12"] == ["True", "True"]
        assert store.calls == ["claim", "complete", "claim"]


class TestHiddenViews:
    """A decorator without ``functools.wraps`` hides the ``@idempotent`` below it."""

    @staticmethod
    def hidden(view: Callable[..., Any]) -> Callable[..., Any]:
        return lambda: view()

    @pytest.mark.parametrize(
        "keywords",
        [
            {"scope": lambda request: request.headers["X-Own"]},
            {"key": lambda request: request.headers["X-Own"]},
            {"fingerprint": False},
            {"ignore_fields": ("at",)},
        ],
        ids=lambda keywords: next(iter(keywords)),
    )
    def test_whose_response_it_is(self, make_app: MakeApp, keywords: dict[str, Any]) -> None:
        """Nobody gets another's response because a keyword was not seen: it is an error."""
        app = make_app(config={"PROPAGATE_EXCEPTIONS": True})
        add(app, "view", self.hidden(idempotent(**keywords)(lambda: "ran")))
        for _ in "12":
            with pytest.raises(SettingsError, match=r"before .* is called.*functools\.wraps"):
                post(app, path="/view", headers={"X-Own": "me"})

    def test_other_keywords(self, make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
        """That other keywords do not apply is logged once."""
        app = make_app()
        add(app, "view", self.hidden(idempotent(expire=5)(lambda: "ran")))
        assert [post(app, path="/view").text for _ in "12"] == ["ran", "ran"]
        told = [record.message for record in caplog.records if "do not apply" in record.message]
        assert len(told) == 1
        assert "POST 'view'" in told[0]

    def test_same_settings(self, make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
        """Where nothing is lost, nothing is told."""
        app = make_app(expire=5)
        add(app, "view", self.hidden(idempotent(expire=5)(lambda: "ran")))
        assert [post(app, path="/view").text for _ in "12"] == ["ran", "ran"]
        assert "do not apply" not in caplog.text


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
        """A script or a task is refused, and told what to call."""
        with pytest.raises(OutsideRequest, match=r"bare was called outside .* its __wrapped__"):
            self.bare()
        with make_app(wide=False).app_context(), pytest.raises(RuntimeError):
            self.bare()
        assert self.bare.__wrapped__() == "ran"  # type: ignore[attr-defined]

    def test_event_of_a_websocket(
        self, make_app: MakeApp, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Events share the handshake's request: its key is none of theirs, which is told once."""
        store = FaultyStore()
        for app in (make_app(wide=False), make_app(wide=True)):
            caplog.clear()
            environ = app.test_request_context(
                "/socket.io/", headers={"Idempotency-Key": "k"}
            ).request.environ
            with state_of(app).using_store(store):
                for _ in "12":
                    with app.request_context(environ):
                        assert self.bare() == "ran"
            assert caplog.text.count("the call is not protected") == 1
        assert store.calls == []

    def test_key_that_is_required(self, make_app: MakeApp) -> None:
        """What requires a key does not run where none is looked for."""
        with make_app(wide=False).test_request_context("/nowhere"):
            for _ in "12":
                with pytest.raises(OutsideRequest, match="requires a key"):
                    self.requiring()

    def test_routed_request(self, make_app: MakeApp) -> None:
        """A test of a view's function has the request that it makes."""
        app = make_app(wide=False)
        add(app, "view", self.bare)
        with app.test_request_context("/view", method="POST"):
            assert self.bare() == "ran"
