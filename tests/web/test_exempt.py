"""Views that are exempt from the application's protection, and static files."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from flask import Flask
from flask.views import MethodView

from flask_idempotent import Idempotent, current_claim, idempotent
from tests.conftest import MakeApp
from tests.support.clients import Gate, post
from tests.support.faulty_store import FaultyStore


def send_twice(app: Flask, **options: Any) -> list[str]:
    return [post(app, **options).text for _ in range(2)]


@pytest.fixture(params=[False, True], ids=["alone", "below the extension"])
def app(request: pytest.FixtureRequest, make_app: MakeApp) -> Flask:
    return make_app(wide=request.param)


class TestExempt:
    def test_is_left_alone(self, make_app: MakeApp) -> None:
        """An exempt view runs every time, claims nothing, and ignores a bad key."""
        store = FaultyStore()
        app, runs = make_app(store=store, required=True), count(1)

        @app.post("/")
        @idempotent.exempt
        def view() -> str:
            return f"run {next(runs)}, claimed: {bool(current_claim)}"

        answers = [post(app, key).text for key in ("key-one", "key-one", ",", None)]
        assert answers == [f"run {n}, claimed: False" for n in (1, 2, 3, 4)]
        assert store.calls == []

    def test_returns_the_view_itself(self) -> None:
        """``exempt`` marks a view and changes nothing of it."""

        def view() -> str:
            return "ran"

        assert idempotent.exempt(view) is view
        assert view() == "ran"

    def test_duplicates_run_side_by_side(
        self, make_app: MakeApp, background: Callable[..., Any]
    ) -> None:
        """Nobody waits for an exempt view."""
        app, gate = make_app(), Gate()

        @app.post("/")
        @idempotent.exempt
        def view() -> str:
            gate()
            return "ran"

        both = [background(post, app) for _ in range(2)]
        for _ in both:
            gate.reached()
        gate.open()
        assert [answer.result().text for answer in both] == ["ran", "ran"]

    def test_exempt_class(self, make_app: MakeApp) -> None:
        """``exempt`` stands among the decorators of a class, and on one of its methods."""
        app, runs = make_app(), count(1)

        class Whole(MethodView):
            decorators = [idempotent.exempt]  # noqa: RUF012

            def post(self) -> str:
                return f"run {next(runs)}"

        class Part(MethodView):
            @idempotent.exempt
            def post(self) -> str:
                return f"run {next(runs)}"

            def put(self) -> str:
                return f"run {next(runs)}"

        app.add_url_rule("/whole", view_func=Whole.as_view("whole"))
        app.add_url_rule("/part", view_func=Part.as_view("part"))
        assert send_twice(app, path="/whole") == ["run 1", "run 2"]
        assert send_twice(app, path="/part") == ["run 3", "run 4"]
        assert send_twice(app, path="/part", method="PUT") == ["run 5", "run 5"]

    def test_without_the_extension(self, make_app: MakeApp) -> None:
        """Where nothing protects it, an exempt view is a view."""
        app = make_app(wide=False)
        app.add_url_rule("/", "view", idempotent.exempt(lambda: "ran"), methods=["POST"])
        assert post(app).text == "ran"


class TestStaticFiles:
    def test_extension_leaves_routes_without_a_key_alone(self, make_app: MakeApp) -> None:
        """The extension adds the address of its script to an application, and changes none."""
        plain, protected = Flask("tests"), make_app()
        Idempotent(plain)
        rules = sorted(rule.rule for rule in plain.url_map.iter_rules())
        assert rules == sorted(rule.rule for rule in protected.url_map.iter_rules())
        assert rules == ["/_idempotent/<path:filename>", "/static/<path:filename>"]
