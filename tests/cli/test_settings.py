"""The command settings: the value of each setting, and where it comes from."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Blueprint, Flask

from flask_idempotent import SettingsError, idempotent
from flask_idempotent.cli.setting_values import _SIZES, _TIMES
from flask_idempotent.options import OPTIONS
from flask_idempotent.stores.memory import MemoryStore
from tests.cli.harness import document, run
from tests.conftest import MakeApp
from tests.support.transactions import MemoryTransaction


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """Views whose settings come from the config, a blueprint and the view; two are unprotected."""
    app = make_app(wide=False, config={"IDEMPOTENT_TIMEOUT": timedelta(minutes=2)})
    api = idempotent.protect(Blueprint("api", "api", url_prefix="/api"), expire=86400)
    api.post("/orders")(idempotent(required=True)(lambda: ""))
    app.register_blueprint(api)
    app.add_url_rule(
        "/carts/<int:number>", "carts", idempotent(max_body=1000)(lambda number: ""),
        methods=["POST"],
    )  # fmt: skip
    app.add_url_rule("/log", "log", idempotent.exempt(lambda: ""), methods=["POST"])
    app.add_url_rule("/put", "put", idempotent(methods=["POST"])(lambda: ""), methods=["PUT"])
    return app


class TestSettings:
    def test_of_the_application(self, app: Flask) -> None:
        """Without a path they are those of a view that sets none itself."""
        lines = run(app, "settings").stdout.splitlines()
        assert lines[:4] == [
            "SETTING         FROM                VALUE",
            "redis_url       REDIS_URL           memory://",
            "timeout         IDEMPOTENT_TIMEOUT  2 minutes",
            "busy_status     default             409",
        ]
        assert "max_body        default             1 MiB" in lines
        assert "methods         default             every method with an effect" in lines
        assert "ignore_fields   default             none" in lines
        assert len(lines) == len(OPTIONS) + 1

    def test_of_a_view(self, app: Flask) -> None:
        """With a path they are those of the view that a request would reach."""
        data = document(app, "settings", "--path", "/api/orders")
        assert data["expire"] == {"value": 86400, "from": "blueprint api"}
        assert data["required"] == {"value": True, "from": "view"}
        assert data["headers"]["value"] == ["Idempotency-Key", "X-Idempotent-Key"]
        assert data["fingerprint"] == {"value": None, "from": "default"}
        carts = document(app, "settings", "--path", "/carts/7", "--method", "post")
        assert carts["max_body"] == {"value": 1000, "from": "view"}

    @pytest.mark.parametrize(("path", "method"), [("/log", "POST"), ("/put", "PUT")])
    def test_of_a_view_that_is_not_protected(self, app: Flask, path: str, method: str) -> None:
        """A note on the standard error says that they would apply if it were protected."""
        result = run(app, "settings", "--path", path, "--method", method)
        assert result.exit_code == 0
        assert f"{method} {path} is not protected. These settings would apply if" in result.stderr

    def test_no_view(self, app: Flask) -> None:
        """A path that matches no route is wrong usage."""
        result = run(app, "settings", "--path", "/nowhere")
        assert result.exit_code == 2
        assert "POST /nowhere matches no route: Not Found." in result.stderr

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
        """User, password and options of an address are not shown."""
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
        """With store= the address is not used."""
        app = make_app(store=MemoryStore())
        assert document(app, "settings")["redis_url"] == {"value": None, "from": "extension"}
        assert "not used: store= was given" in run(app, "settings").stdout

    def test_transaction(self, make_app: MakeApp) -> None:
        """A transaction is shown by the name of its class."""
        app = make_app(transaction=MemoryTransaction())
        name = "tests.support.transactions.MemoryTransaction"
        assert document(app, "settings")["transaction"] == {"value": name, "from": "extension"}

    def test_described_transaction(self, make_app: MakeApp) -> None:
        """A transaction that describes itself is shown as it does."""

        class Described(MemoryTransaction):
            def __repr__(self) -> str:
                return "Described(answers)"

        app = make_app(transaction=Described())
        assert document(app, "settings")["transaction"]["value"] == "Described(answers)"

    @pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
    def test_units(self, option: Any) -> None:
        """Settings that are a time or a size are written with a unit."""
        try:
            option.check(option.name, timedelta(seconds=5))
            is_time = True
        except SettingsError:
            is_time = False
        assert is_time == (option.name in _TIMES)
        assert {"max_body", "compress"} == _SIZES
