"""The command routes: which routes are protected, by what, and with which settings."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

import pytest
from flask import Blueprint, Flask, Request
from flask.views import MethodView

from flask_idempotent import Idempotent, idempotent
from flask_idempotent.options import KEYWORDS
from tests.cli.harness import document, run
from tests.conftest import MakeApp


def tenant(request: Request) -> str:
    return request.headers["X-Tenant"]


class Carts(MethodView):
    decorators: ClassVar = [idempotent(expire=5)]

    @idempotent(max_body=1000)
    def post(self) -> str:
        return ""

    @idempotent.exempt
    def put(self) -> str:
        return ""

    def get(self) -> str:
        return ""


def add(app: Flask | Blueprint, name: str, view: Any = None, method: str = "POST") -> None:
    app.add_url_rule(f"/{name}", name, view or (lambda: ""), methods=[method])


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """Every kind of route, without the extension."""
    app = make_app(wide=False, config={"IDEMPOTENT_TIMEOUT": timedelta(minutes=2)})
    api = idempotent.protect(Blueprint("api", "api", url_prefix="/api"), expire=86400)
    add(api, "orders", idempotent(scope=tenant, required=True)(lambda: ""))
    add(api, "refunds")
    app.register_blueprint(api)
    app.add_url_rule("/carts/<int:number>", view_func=Carts.as_view("carts"))
    add(app, "log", idempotent.exempt(lambda: ""))
    add(app, "visits")
    add(app, "read", method="GET")
    add(app, "put", idempotent(methods=["POST"])(lambda: ""), "PUT")
    return app


class TestRoutes:
    def test_every_kind(self, app: Flask) -> None:
        """Protected, exempt and unprotected routes, with what is set and where that comes from."""
        assert run(app, "routes").stdout.splitlines() == [
            "STATE        METHODS  ROUTE                BY",
            "protected    POST     /api/orders          view",
            "    timeout 2 minutes (IDEMPOTENT_TIMEOUT), expire 1 day (blueprint api), "
            "required True (view), scope tests.cli.test_routes.tenant (view)",
            "protected    POST     /api/refunds         blueprint api",
            "    timeout 2 minutes (IDEMPOTENT_TIMEOUT), expire 1 day (blueprint api)",
            "protected    POST     /carts/<int:number>  view",
            "    timeout 2 minutes (IDEMPOTENT_TIMEOUT), expire 5 seconds (view), "
            "max_body 1000 bytes (view)",
            "exempt       PUT      /carts/<int:number>  view",
            "exempt       POST     /log                 view",
            "unprotected  PUT      /put                 the method is not tracked",
            "unprotected  POST     /visits",
            "",
            "3 protected, 2 exempt, 2 unprotected",
        ]

    def test_what_only_reads(self, app: Flask) -> None:
        """``--all`` adds the routes that only read."""
        lines = run(app, "routes", "--all").stdout.splitlines()
        assert "unprotected  GET      /read" in lines
        assert any("/static/<path:filename>" in line for line in lines)
        assert not any("HEAD" in line or "OPTIONS" in line for line in lines)

    def test_below_the_extension(self, make_app: MakeApp) -> None:
        """The extension protects every other route, with its keywords and hooks."""
        app = make_app(wide=False)
        Idempotent(app, expire=60).scope(tenant)
        add(app, "orders")
        data = document(app, "routes")
        assert [(row["state"], row["source"]) for row in data] == [("protected", "extension")]
        settings = data[0]["settings"]
        assert settings["expire"] == {"value": 60, "from": "extension"}
        assert settings["scope"] == {"value": "tests.cli.test_routes.tenant", "from": "extension"}
        assert settings["timeout"] == {"value": 60, "from": "default"}
        assert set(settings) == KEYWORDS

    def test_above_the_route(self, make_app: MakeApp) -> None:
        """A decorator above the route, which protects nothing, is pointed out."""
        app = make_app()
        idempotent(app.post("/orders")(lambda: ""))
        (row,) = document(app, "routes")
        assert (row["state"], row["settings"]) == ("unprotected", {})
        assert "@idempotent above the route" in row["note"]
        assert "every request fails" in run(app, "routes").stdout

    @pytest.mark.parametrize("columns", [60, 80, 100, 200])
    def test_fits_the_terminal(
        self, app: Flask, columns: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No line is longer than the terminal is wide, and no word is broken."""
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
        lines = run(app, "routes").stdout.splitlines()
        assert max(map(len, lines)) <= columns
        assert "tests.cli.test_routes.tenant (view)" in " ".join(map(str.strip, lines))
