"""Applications whose views are to be found safe, or not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from flask import Flask

from flask_idempotent import Idempotent, idempotent


def bare() -> Flask:
    """An application whose store nobody can reach."""
    app = Flask("shop")
    app.config.update(REDIS_URL="redis://127.0.0.1:1/0", SECRET_KEY="only for tests")
    app.testing = True
    return app


def app_with(view: Callable[..., Any] | None = None, **overrides: Any) -> Flask:
    """An application with one decorated view, on POST /orders."""
    app, runs = bare(), count(1)
    run = view or (lambda: ({"run": next(runs)}, 201))
    app.add_url_rule("/orders", "orders", idempotent(**overrides)(run), methods=["POST"])
    return app


def wide(view: Callable[..., Any], **overrides: Any) -> Flask:
    """The same with an undecorated view, protected by the extension."""
    app = bare()
    Idempotent(app, **overrides)
    app.add_url_rule("/orders", "orders", view, methods=["POST"])
    return app
