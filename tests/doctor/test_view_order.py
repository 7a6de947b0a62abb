"""The order of decorators on a view, and who may ask."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from flask.views import MethodView
from flask_login import login_required

from flask_idempotent import idempotent
from tests.conftest import MakeApp
from tests.doctor.harness import View, add_view, examined, plain, timed


def roles_required(role: str) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        @wraps(view)
        def checked(*args: Any) -> Any:
            return view(*args)

        return checked

    return decorate


class TestOrder:
    @pytest.mark.parametrize(
        "view",
        [
            idempotent(login_required(plain)),
            idempotent(timed(roles_required("admin")(plain))),
            timed(idempotent(login_required(plain))),
            login_required(lambda: ""),
        ],
        ids=["login", "between", "around", "app-wide"],
    )
    def test_guard_behind(self, make_app: MakeApp, view: View) -> None:
        """A decorator that lets callers in stands behind the check: it is named."""
        app = make_app()
        add_view(app, "/orders", view)
        found = examined(app)["order"]
        assert found.level == "warning"
        assert "Put @idempotent below that decorator." in found.fix

    def test_unknown_decorator(self, make_app: MakeApp) -> None:
        """What a decorator below the application's check does is not known: it is noted."""
        app = make_app()
        add_view(app, "/signed", timed(plain))
        add_view(app, "/own", timed(idempotent(plain)))
        add_view(app, "/behind", idempotent(timed(plain)))
        app.add_url_rule("/class", view_func=MethodView.as_view("class"), methods=["POST"])
        found = examined(app)
        assert found["order"].level == "ok"
        assert found["decorators"].level == "note"
        assert "This applies to POST /signed (@timed)." in found["decorators"].text

    def test_names(self, make_app: MakeApp) -> None:
        """The route and the decorator are named."""
        app = make_app(wide=False)
        add_view(app, "/orders", idempotent(roles_required("admin")(plain)))
        assert "This applies to POST /orders (@roles_required)." in examined(app)["order"].text

    @pytest.mark.parametrize(
        "view",
        [
            login_required(idempotent(plain)),
            login_required(idempotent(timed(plain))),
            roles_required("admin")(timed(idempotent(plain))),
            idempotent.exempt(login_required(lambda: "")),
        ],
        ids=["login", "with-others", "around-others", "exempt"],
    )
    def test_guard_before(self, make_app: MakeApp, view: View) -> None:
        """A decorator that lets callers in stands before the check: nothing is wrong."""
        app = make_app()
        add_view(app, "/orders", view)
        add_view(app, "/", plain)
        assert examined(app)["order"].level == "ok"

    def test_class_based_views(self, make_app: MakeApp) -> None:
        """Of a class, its decorators and those of its methods are looked at."""

        class Wrong(MethodView):
            decorators = [idempotent]  # noqa: RUF012

            @login_required
            def post(self) -> str:
                return ""

        class Right(MethodView):
            decorators = [login_required]  # noqa: RUF012

            @idempotent
            def post(self) -> str:
                return ""

        app = make_app(wide=False)
        app.add_url_rule("/wrong", view_func=Wrong.as_view("wrong"))
        app.add_url_rule("/right", view_func=Right.as_view("right"))
        found = examined(app)["order"]
        assert "POST /wrong (@login_required)" in found.text
        assert "/right" not in found.text
