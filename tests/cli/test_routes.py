"""The commands that say what protects an application: routes and settings."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

import pytest
from flask import Blueprint, Flask, Request
from flask.views import MethodView

from flask_idempotent import Idempotent, SettingsError, idempotent
from flask_idempotent.cli.effective import _SIZES, _TIMES
from flask_idempotent.options import KEYWORDS, OPTIONS
from flask_idempotent.stores.memory import MemoryStore
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
        """``--all`` has the routes that only read, too."""
        lines = run(app, "routes", "--all").stdout.splitlines()
        assert "unprotected  GET      /read" in lines
        assert any("/static/<path:filename>" in line for line in lines)
        assert not any("HEAD" in line or "OPTIONS" in line for line in lines)

    def test_below_the_extension(self, make_app: MakeApp) -> None:
        """The extension protects what says nothing, with its keywords and hooks."""
        app = make_app(wide=False)
        Idempotent(app, expire=60).scope(tenant)
        add(app, "orders")
        found = document(app, "routes")
        assert [(row["state"], row["source"]) for row in found] == [("protected", "extension")]
        settings = found[0]["settings"]
        assert settings["expire"] == {"value": 60, "from": "extension"}
        assert settings["scope"] == {"value": "tests.cli.test_routes.tenant", "from": "extension"}
        assert settings["timeout"] == {"value": 60, "from": "default"}
        assert set(settings) == KEYWORDS

    def test_above_the_route(self, make_app: MakeApp) -> None:
        """A decorator that protects nothing is told of."""
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


class TestSettings:
    def test_of_the_application(self, app: Flask) -> None:
        """Without a path they are those of a view that has none of its own."""
        lines = run(app, "settings").stdout.splitlines()
        assert lines[:4] == [
            "SETTING         FROM                VALUE",
            "redis_url       REDIS_URL           memory://",
            "timeout         IDEMPOTENT_TIMEOUT  2 minutes",
            "expire          default             4 minutes",
        ]
        assert "max_body        default             1 MiB" in lines
        assert "methods         default             every method with an effect" in lines
        assert "ignore_fields   default             none" in lines
        assert len(lines) == len(OPTIONS) + 1

    def test_of_a_view(self, app: Flask) -> None:
        """With a path they are those of the view that a request would reach."""
        found = document(app, "settings", "--path", "/api/orders")
        assert found["expire"] == {"value": 86400, "from": "blueprint api"}
        assert found["required"] == {"value": True, "from": "view"}
        assert found["headers"]["value"] == ["Idempotency-Key", "X-Idempotent-Key"]
        assert found["fingerprint"] == {"value": None, "from": "default"}
        carts = document(app, "settings", "--path", "/carts/7", "--method", "post")
        assert carts["max_body"] == {"value": 1000, "from": "view"}

    @pytest.mark.parametrize(("path", "method"), [("/log", "POST"), ("/put", "PUT")])
    def test_of_a_view_that_is_not_protected(self, app: Flask, path: str, method: str) -> None:
        """They are told to be those that would count."""
        result = run(app, "settings", "--path", path, "--method", method)
        assert result.exit_code == 0
        assert f"{method} {path} is not protected: these would count if it were." in result.stderr

    def test_no_view(self, app: Flask) -> None:
        """A path that leads to no view is wrong usage."""
        result = run(app, "settings", "--path", "/nowhere")
        assert result.exit_code == 2
        assert "POST /nowhere leads to no view: Not Found." in result.stderr

    @pytest.mark.parametrize(
        ("address", "shown"),
        [
            ("redis://me:geheim@host:6379/3", "redis://***@host:6379/3"),
            ("rediss://:geh%40im@host/0?socket_timeout=1", "rediss://***@host/0?***"),
            ("redis://host/0?password=geheim", "redis://host/0?***"),
            ("unix://me:geheim@/run/redis.sock?db=1", "unix://***@/run/redis.sock?***"),
            ("valkey://host", "valkey://host"),
            ("embedded://", "embedded://"),
        ],
    )
    def test_no_password(self, make_app: MakeApp, address: str, shown: str) -> None:
        """Of an address neither user nor password nor options are shown."""
        app = make_app(wide=False, config={"REDIS_URL": address})
        for arguments in (["settings"], ["settings", "--json"]):
            output = run(app, *arguments).output
            assert shown in output
            assert "geheim" not in output

    def test_address_that_cannot_be_used(self, make_app: MakeApp) -> None:
        """An address that cannot be used is not shown at all: any part may be the password."""
        app = make_app(wide=False, config={"REDIS_URL": "redis://host&password=geheim"})
        result = run(app, "settings")
        assert result.exit_code == 2
        assert "geheim" not in result.output

    def test_own_store(self, make_app: MakeApp) -> None:
        """Where a store was given the address does not count."""
        app = make_app(store=MemoryStore())
        assert document(app, "settings")["redis_url"] == {"value": None, "from": "extension"}
        assert "not used: store= was given" in run(app, "settings").stdout

    @pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
    def test_units(self, option: Any) -> None:
        """Whatever is a time or a size is written as one."""
        try:
            option.check(option.name, timedelta(seconds=5))
            is_time = True
        except SettingsError:
            is_time = False
        assert is_time == (option.name in _TIMES)
        assert {"max_body", "compress"} == _SIZES
