"""Fixtures of the web layer's tests."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from flask_idempotent.web.state import EXTENSION_KEY, AppState
from tests.conftest import MakeApp
from tests.support.clients import WayIn
from tests.support.faulty_store import FaultyStore
from tests.support.sessions import MakeShop, View, serve, with_server_sessions
from tests.support.shop import Shop


@pytest.fixture
def store() -> FaultyStore:
    """A store that fails as a test says, in place of each store in turn."""
    return FaultyStore()


@pytest.fixture
def decorated_app(make_app: MakeApp, store: FaultyStore) -> Flask:
    """An application that protects only what is decorated."""
    app = make_app(wide=False, config={"PROPAGATE_EXCEPTIONS": False})
    app.extensions[EXTENSION_KEY] = AppState(app, store=store)
    return app


@pytest.fixture
def shop(make_app: MakeApp) -> Shop:
    """An application with one view in a transaction, its store and its database."""
    return Shop(make_app)


@pytest.fixture(params=[("decorated", "cookie"), ("app-wide", "server"), ("both", "cookie")])
def make_shop(request: pytest.FixtureRequest, make_app: MakeApp) -> MakeShop:
    """Makes an application with Flask's sessions and with Flask-Session's, in turn."""
    protection, sessions = request.param
    way = WayIn(protection, make_app)

    def make(view: View, **options: Any) -> Flask:
        app = way.app(**options)
        if sessions == "server":
            with_server_sessions(app)
        return serve(app, way, view)

    return make
