"""The policy: what an application promises its clients."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask.views import MethodView

from flask_idempotent import idempotent, problems
from flask_idempotent.policy import Policy, RoutePolicy, policy_of
from tests.conftest import MakeApp

INVALID: dict[str, Any] = {"correctable": (400, 413, 415, 422)}


class Orders(MethodView):
    def get(self) -> str:
        return "list"

    @idempotent(expire=60)
    def post(self) -> str:
        return "placed"

    @idempotent(expire=30, on_crash="hold", hold_for=3600, correctable=False)
    def put(self) -> str:
        return "changed"


def add_routes(app: Flask) -> Flask:
    app.add_url_rule("/a", view_func=idempotent(required=True, timeout=5)(lambda: "a"),
                     endpoint="a", methods=["POST"])  # fmt: skip
    app.add_url_rule("/b", view_func=lambda: "b", endpoint="b", methods=["POST", "DELETE"])
    app.add_url_rule("/c", view_func=idempotent.exempt(lambda: "c"), endpoint="c", methods=["POST"])
    app.add_url_rule("/orders", view_func=Orders.as_view("orders"))
    return app


FIELD = "__idempotent_key"


def paths(policy: Policy) -> list[tuple[str, tuple[str, ...]]]:
    return [(route.path, route.methods) for route in policy.routes]


class TestRoutes:
    def test_decorated_views_alone(self, make_app: MakeApp) -> None:
        """Without the extension the routes are those of decorated views, each with its settings."""
        policy = policy_of(add_routes(make_app(wide=False)))
        assert policy.routes == (
            RoutePolicy(
                "/a", ("POST",), True, 240, 5, "rerun", 1024 * 1024, "default", FIELD, **INVALID
            ),
            RoutePolicy(
                "/orders",
                ("POST",),
                False,
                60,
                60,
                "rerun",
                1024 * 1024,
                "default",
                FIELD,
                **INVALID,
            ),
            RoutePolicy(
                "/orders",
                ("PUT",),
                False,
                30,
                60,
                "hold",
                1024 * 1024,
                "default",
                FIELD,
                hold_for=3600,
            ),
        )

    def test_app_wide(self, make_app: MakeApp) -> None:
        """With the extension they are all routes except exempt ones and untracked methods."""
        app = add_routes(make_app(methods=("POST", "PUT", "DELETE"), scope=lambda request: "one"))
        policy = policy_of(app)
        assert paths(policy) == [
            ("/a", ("POST",)),
            ("/b", ("DELETE", "POST")),
            ("/orders", ("POST",)),
            ("/orders", ("PUT",)),
        ]
        assert {route.scope for route in policy.routes} == {"custom"}

    def test_what_only_reads(self, make_app: MakeApp) -> None:
        """GET and static files are in the policy only where GET is tracked."""
        for methods, expected in (None, [("/", ("POST",))]), (["GET"], [("/", ("GET",))]):
            app = make_app(**({} if methods is None else {"methods": methods}))
            app.add_url_rule("/", "view", lambda: "a", methods=["GET", "POST"])
            assert paths(policy_of(app)) == expected

    def test_key_of_its_own(self, make_app: MakeApp) -> None:
        """A route says that a function of the view finds the key."""
        app = make_app(wide=False)
        view = idempotent(key=lambda request: "k")(lambda: "a")
        app.add_url_rule("/a", "a", view, methods=["POST"])
        app.add_url_rule("/b", "b", idempotent(lambda: "b"), methods=["POST"])
        assert [route.key for route in policy_of(app).routes] == ["custom", "default"]


class TestForms:
    def test_for_programs(self, make_app: MakeApp) -> None:
        """The policy for programs has settings, routes and every problem with its own base."""
        config = {"IDEMPOTENT_PROBLEM_BASE": "https://api.example/problems/"}
        policy = policy_of(add_routes(make_app(wide=False, config=config))).as_dict()
        assert policy["headers"] == ("Idempotency-Key", "X-Idempotent-Key")
        assert policy["routes"][0]["path"] == "/a"
        assert [problem["type"] for problem in policy["problems"]] == [
            f"https://api.example/problems/{kind.slug}" for kind in problems.ALL
        ]

    def test_for_people(self, make_app: MakeApp) -> None:
        """The policy for people names header, field, length, routes and problems."""
        text = policy_of(add_routes(make_app(wide=False))).as_markdown()
        assert "`Idempotency-Key` or `X-Idempotent-Key`" in text
        assert "field `__idempotent_key`" in text
        assert "| POST | `/a` | required | 4 minutes | 5 seconds | runs again | 1 MiB |" in text
        held = (
            "| PUT | `/orders` | optional | 30 seconds | 1 minute | does not run again for 1 hour |"
        )
        assert held in text
        assert all(f"`urn:flask-idempotent:problem:{kind.slug}`" in text for kind in problems.ALL)

    def test_busy_status(self, make_app: MakeApp) -> None:
        """``busy_status``: "in-progress" is listed with each status that a route has."""
        app = make_app(wide=False)
        for path, status in (("/a", 409), ("/b", 503), ("/c", 425), ("/d", 503)):
            view = idempotent(busy_status=status)(lambda: "x")
            app.add_url_rule(path, path, view, methods=["POST"])
        policy = policy_of(app)
        assert [route.busy_status for route in policy.routes] == [409, 503, 425, 503]
        described = policy.as_dict()["problems"]
        in_progress = [p["status"] for p in described if p["type"].endswith(":in-progress")]
        assert in_progress == [409, 425, 503]
        assert [p["status"] for p in described] == sorted(p["status"] for p in described)
        row = "| 425 | `urn:flask-idempotent:problem:in-progress` | yes |"
        assert row in policy.as_markdown()

    def test_strict_keys(self, make_app: MakeApp) -> None:
        """K4: in strict mode only the quoted form is offered."""
        lenient = policy_of(make_app()).as_markdown()
        strict = policy_of(make_app(config={"IDEMPOTENT_STRICT_KEYS": True})).as_markdown()
        assert "or unquoted" in lenient
        assert "or unquoted" not in strict

    def test_lines_are_short(self, make_app: MakeApp) -> None:
        """People read the lines; a row of a table is one line, as Markdown wants it."""
        for strict in (True, False):
            policy = policy_of(make_app(config={"IDEMPOTENT_STRICT_KEYS": strict}))
            lines = policy.as_markdown().splitlines()
            assert max(len(line) for line in lines if not line.startswith("|")) <= 105
