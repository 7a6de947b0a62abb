"""The doctor's checks of the views."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial, wraps
from types import FunctionType

import pytest
from flask import Blueprint, request, session
from flask_login import LoginManager

from flask_idempotent import idempotent
from flask_idempotent.doctor import diagnose, view_checks
from tests.conftest import MakeApp
from tests.doctor.harness import View, add_view, examined, plain, timed


def cached(view: View) -> View:
    """Mark what it makes as Flask-Caching does."""
    wrapper = timed(view)
    wrapper.uncached = view  # type: ignore[attr-defined]
    return wrapper


class TestPlaces:
    @pytest.mark.parametrize("wide", [True, False])
    def test_above_the_route(self, make_app: MakeApp, wide: bool) -> None:
        """A decorator above its route is an error that names the view and the route."""
        app = make_app(wide=wide)

        def create_order() -> str:
            return ""

        add_view(app, "/orders", create_order)
        idempotent(create_order)
        found = examined(app)["place"]
        assert found.level == "error"
        assert "create_order (POST /orders)" in found.text
        assert "Put @idempotent below @app.post" in found.fix


class TestUnprotected:
    def test_are_named(self, make_app: MakeApp) -> None:
        """Routes that have an effect are named, but not those that say that this is meant."""
        app = make_app(wide=False)
        add_view(app, "/safe", idempotent(plain))
        add_view(app, "/exempt", idempotent.exempt(lambda: ""))
        app.add_url_rule("/read", view_func=plain, endpoint="read")
        assert "unprotected" not in examined(app)
        add_view(app, "/forgotten", timed(lambda: ""))
        add_view(app, "/other", idempotent(methods=["PUT"])(plain))
        found = examined(app)["unprotected"]
        assert found.level == "note"
        assert "This applies to POST /forgotten, POST /other." in found.text

    def test_below_the_extension(self, make_app: MakeApp) -> None:
        """Below the extension these are the routes whose methods are not tracked."""
        app = make_app(methods=["POST"])
        add_view(app, "/", plain)
        assert "unprotected" not in examined(app)
        app.add_url_rule("/put", view_func=plain, endpoint="put", methods=["PUT"])
        assert "PUT /put" in examined(app)["unprotected"].text


class TestCaches:
    @pytest.mark.parametrize("cache", [functools.cache, cached], ids=["functools", "Flask-Caching"])
    def test_above_the_check(self, make_app: MakeApp, cache: Callable[[View], View]) -> None:
        """What a cache holds is everybody's answer, so it must not stand above the check."""
        app = make_app()
        add_view(app, "/above", timed(cache(idempotent(plain))))
        add_view(app, "/below", idempotent(cache(plain)))
        add_view(app, "/wide", cache(lambda: ""))
        found = examined(app)["cache"]
        assert found.level == "error"
        assert "This applies to POST /above." in found.text


class TestRoutes:
    def test_none(self, make_app: MakeApp) -> None:
        """An application without a protected route has forgotten something."""
        assert list(examined(make_app(wide=False))) == ["routes"]

    def test_required(self, make_app: MakeApp) -> None:
        """Routes that change something and run without a key are named, the first five."""
        app = make_app(wide=False)
        add_view(app, "/0", idempotent(required=True)(plain))
        assert examined(app)["required"].level == "ok"
        for number in range(1, 8):
            add_view(app, f"/{number}", idempotent(plain))
        app.add_url_rule("/read", view_func=idempotent(plain), endpoint="read")
        found = examined(app)["required"]
        assert found.level == "note"
        assert "to POST /1, POST /2, POST /3, POST /4, POST /5 and 2 more." in found.text


class TestMethods:
    def test_w1_get_alone(self, make_app: MakeApp) -> None:
        """W1: a decorated view that takes GET alone is named, also where nothing else is."""
        app = make_app(wide=False)
        app.add_url_rule("/read", view_func=idempotent(plain), endpoint="read")
        found = examined(app)
        assert list(found) == ["methods", "routes"]
        assert found["methods"].level == "warning"
        assert "This applies to GET /read." in found["methods"].text


class TestCookies:
    def test_kept(self, make_app: MakeApp) -> None:
        """Set-Cookie in replays is a warning that names the routes."""
        app = make_app(wide=False)
        add_view(app, "/", idempotent(plain))
        assert "cookies" not in examined(app)
        add_view(app, "/kept", idempotent(keep_headers=["set-cookie"])(plain))
        assert "This applies to POST /kept." in examined(app)["cookies"].text


class TestLogins:
    def test_named(self, make_app: MakeApp) -> None:
        """A login in replays is a warning that names the routes."""
        app = make_app(wide=False)
        add_view(app, "/", idempotent(replay_session=("cart",))(plain))
        assert "logins" not in examined(app)
        add_view(app, "/login", idempotent(replay_session=("user_id",))(plain))
        assert "This applies to POST /login." in examined(app)["logins"].text


class TestScope:
    def test_nobody_is_known(self, make_app: MakeApp) -> None:
        """F11: where nothing tells who calls, the default scope is a warning."""
        app = make_app(wide=False)
        add_view(app, "/", idempotent(plain))
        found = examined(app)["scope"]
        assert found.level == "warning"
        assert "known by Authorization, X-Api-Key, Flask-Login's user and the" in found.text
        assert "This applies to every protected route." in found.text

    def test_flask_login(self, make_app: MakeApp) -> None:
        """F11: a login manager knows those who log in, and nobody else."""
        app = make_app(wide=False)
        add_view(app, "/", idempotent(plain))
        login = LoginManager(app)
        assert examined(app)["scope"].level == "note"
        login.request_loader(lambda request: None)
        found = examined(app)["scope"]
        assert found.level == "warning"
        assert "Flask-Login has a request_loader" in found.text

    def test_headers_that_are_named(self, make_app: MakeApp) -> None:
        """Who sets the headers, were it to the default's, has said who the callers are."""
        app = make_app(wide=False, config={"IDEMPOTENT_SCOPE_HEADERS": ("Authorization",)})
        add_view(app, "/", idempotent(plain))
        assert examined(app)["scope"].level == "ok"

    def test_scope_function(self, make_app: MakeApp) -> None:
        """A scope function on every route leaves no question."""
        app = make_app(wide=False)
        add_view(app, "/", idempotent(scope=lambda request: "one")(plain))
        assert examined(app)["scope"].level == "ok"

    @pytest.mark.parametrize(
        ("reading", "clue"),
        [
            (lambda: request.cookies.get("token"), "reads cookies"),
            (lambda: request.headers["X-Tenant"], "reads the header X-Tenant"),
            (lambda: request.headers.get("X-Api-Token"), "reads the header X-Api-Token"),
            (lambda: [request.headers["X-Account-Id"] for _ in "1"], "reads the header X-Account"),
            (lambda: request.host.partition(".")[0], "reads the host name"),
        ],
    )
    @pytest.mark.parametrize("place", ["view", "hook", "blueprint", "decorator"])
    def test_f11_clues(self, make_app: MakeApp, place: str, reading: View, clue: str) -> None:
        """F11: what a view, a decorator or a hook reads about a caller is always reported."""
        app = make_app(wide=False, config={"IDEMPOTENT_SCOPE_HEADERS": ("Authorization",)})
        view: View = partial(reading) if place == "view" else plain
        if place == "hook":
            app.before_request(reading)
        elif place == "blueprint":
            blueprint = Blueprint("shop", __name__)
            blueprint.url_value_preprocessor(reading)
            app.register_blueprint(blueprint)
        elif place == "decorator":
            view = wraps(plain)(FunctionType(reading.__code__, globals()))
        add_view(app, "/", idempotent(view))
        found = examined(app)["scope"]
        assert found.level == "warning"
        assert clue in found.text

    @pytest.mark.parametrize(
        "reading",
        [
            lambda: request.headers["User-Agent"],
            lambda: request.headers["X-CSRFToken"],
            lambda: request.headers["Accept-Language"],
            lambda: request.headers["Accept"] + request.json["user"],
            lambda: request.headers["authorization"],
            lambda: request.json["X-Tenant"],
            lambda: session["user_id"],
        ],
    )
    def test_no_clues(self, make_app: MakeApp, reading: View) -> None:
        """What says nothing about a caller, or is in the scope already, is not a clue."""
        app = make_app(wide=False, config={"IDEMPOTENT_SCOPE_HEADERS": ("Authorization",)})
        add_view(app, "/", idempotent(reading))
        assert examined(app)["scope"].level == "ok"

    def test_tokens_in_cookies(self, make_app: MakeApp) -> None:
        """Flask-JWT-Extended says by its setting where it takes tokens from."""
        app = make_app(wide=False, config={"JWT_TOKEN_LOCATION": ["headers", "cookies"]})
        add_view(app, "/", idempotent(plain))
        assert "reads tokens from cookies" in examined(app)["scope"].text

    def test_tenants_by_host_name(self, make_app: MakeApp) -> None:
        """A route with a part of the host name in it has tenants."""
        app = make_app(wide=False)
        app.add_url_rule(
            "/", "order", idempotent(lambda tenant: ""), methods=["POST"], subdomain="<tenant>"
        )
        assert "routes match a part of the host name" in examined(app)["scope"].text

    def test_many_clues(self, make_app: MakeApp) -> None:
        """Of many clues the first few are shown."""
        app = make_app(wide=False)
        for number in range(5):
            add_view(app, f"/{number}", idempotent(lambda: request.cookies["token"]))
        assert "and 2 more" in examined(app)["scope"].text


@pytest.mark.parametrize(
    ("name", "guards"),
    [
        ("login_required", True), ("fresh_login_required", True), ("jwt_required", True),
        ("roles_accepted", True), ("requires_auth", True), ("require_api_key", True),
        ("permission_required", True), ("timed", False), ("require_json", False),
        ("user_timezone", False), ("cached", False),
    ],
)  # fmt: skip
def test_guards_are_known_by_name(name: str, guards: bool) -> None:
    """A decorator is taken for a guard when its name says who may come in."""
    assert (view_checks._GUARD.fullmatch(name) is not None) is guards


def test_diagnose(make_app: MakeApp) -> None:
    """All checks are run."""
    app = make_app()
    add_view(app, "/", lambda: "")
    found = diagnose(app)
    assert [(f.check, f.level.value) for f in found] == [
        ("store", "warning"), ("bodies", "warning"), ("gunicorn", "note"), ("required", "note"),
        ("scope", "warning"), ("order", "ok"),
    ]  # fmt: skip
