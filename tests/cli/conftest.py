"""An application on a real, empty server."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_idempotent import idempotent
from flask_idempotent.stores.factory import open_store
from tests.cli.harness import SERVER
from tests.conftest import MakeApp
from tests.support.redis_servers import Server


@pytest.fixture
def app(clean_valkey: Server, make_app: MakeApp) -> Flask:
    """Protected app-wide; ``/tenants`` has a scope function, ``/free`` is exempt."""
    app = make_app(store=open_store(clean_valkey.url, "tests"))
    app.extensions[SERVER] = clean_valkey.client

    @app.post("/orders")
    def orders() -> tuple[str, int]:
        return "placed", 201

    @app.post("/tenants")
    @idempotent(scope=lambda request: request.headers["X-Tenant"].encode())
    def tenants() -> str:
        return "tenant"

    @app.post("/free")
    @idempotent.exempt
    def free() -> str:
        return "free"

    return app
