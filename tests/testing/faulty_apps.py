"""Applications that are safe to send twice, and applications that are not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

from cachelib import SimpleCache
from flask import Flask, Request, Response, flash, session
from flask.views import MethodView
from flask_session import Session

from flask_idempotent import current_claim, idempotent
from flask_idempotent.testing import assert_idempotent
from flask_idempotent.web.state import state_of
from tests.testing.apps import app_with, bare, wide

SERVER_SIDE = {"SESSION_TYPE": "cachelib", "SESSION_CACHELIB": SimpleCache()}


def check(app: Flask, method: str = "POST", path: str = "/orders", **options: Any) -> Any:
    options.setdefault("threads", 3)
    return assert_idempotent(app.test_client(), method, path, **options)


def slow() -> Callable[[], str]:
    def view() -> str:
        threading.Event().wait(0.1)
        return "ran"

    return view


def changing(name: str) -> Flask:
    """An application that changes every response after its view."""
    app, answers = app_with(lambda: "ran"), count()

    @app.after_request
    def change(response: Response) -> Response:
        number = next(answers)
        if name == "status" and "Idempotent-Replayed" in response.headers:
            response.status_code = 201
        elif name == "header":
            response.headers["X-Number"] = str(number)
        elif name == "body":
            response.data += str(number).encode()
        elif name == "mark":
            response.headers.pop("Idempotent-Replayed", None)
        elif name == "false mark":
            response.headers["Idempotent-Replayed"] = "true"
        elif name == "stream":
            response.response = [b"another"]
        return response

    return app


def remembering() -> Flask:
    """An application that counts a visitor's orders in the session."""

    def view() -> dict[str, int]:
        session["orders"] = session.get("orders", 0) + 1
        return {"orders": session["orders"]}

    return app_with(view)


def flashing(change: Callable[[], None] = lambda: None, **config: Any) -> Flask:
    """An application that tells its visitor of the order on the next page."""

    def view() -> str:
        flash("Thank you.")
        change()
        return "ordered"

    app = app_with(view)
    app.config.update(config)
    if "SESSION_TYPE" in config:
        Session(app)
    return app


def add_to_session() -> None:
    session["orders"] = 1


def grow_in_session() -> None:
    session["basket"].append("mug")
    session.modified = True


def faulty() -> Flask:
    """An application with five faults, none of which hides another."""
    app, runs, answers = bare(), count(), count()

    @idempotent(fingerprint=False)
    def view() -> Any:
        session["orders"] = 1
        return "ordered", 409 if next(runs) == 3 else 201

    @app.after_request
    def change(response: Response) -> Response:
        number = next(answers)
        response.headers["X-Number"] = str(number)
        response.data += str(number).encode()
        return response

    app.add_url_rule("/orders", "orders", view, methods=["POST"])
    return app


def of_a_class() -> Flask:
    app = bare()
    app.add_url_rule("/orders", view_func=type("Orders", (MethodView,), {
        "post": lambda self: "ran",
    }).as_view("orders"))  # fmt: skip
    return app


def asking(answer: Any) -> Flask:
    """An application that asks every visitor for something first."""
    app = app_with()
    app.before_request(lambda: answer)
    return app


def exempt() -> Flask:
    return wide(idempotent.exempt(lambda: "ran"))


def unprotected() -> Flask:
    app = bare()
    app.add_url_rule("/orders", "orders", lambda: "ran", methods=["POST"])
    return app


def slashed() -> Flask:
    app = bare()
    app.add_url_rule("/orders/", "orders", idempotent(lambda: "ran"), methods=["POST"])
    return app


def refusing(when: Callable[[int], bool], **overrides: Any) -> Flask:
    """An application that refuses some requests before their key is looked at."""
    app, requests = app_with(**overrides), count(1)
    app.before_request(lambda: ("no", 429) if when(next(requests)) else None)
    return app


def failing() -> Flask:
    app = app_with(lambda: 1 / 0)
    app.testing = False
    return app


def forgetful() -> Flask:
    """An application that deletes its records before each request."""
    app = app_with()

    @app.before_request
    def forget() -> None:
        store = state_of(app).engine.store
        store.delete(list(store.scan("")))

    return app


def without_key(number: int) -> Flask:
    """An application that finds an empty key in one of its requests."""
    requests = count(1)

    def find(request: Request) -> str:
        return "" if next(requests) == number else request.headers["Idempotency-Key"]

    return app_with(key=find)


def unique_keys() -> Flask:
    known: set[str] = set()

    def view() -> tuple[str, int]:
        if current_claim.key in known:
            return "known", 409
        known.add(current_claim.key)
        return "ordered", 201

    return app_with(view)


def unlike() -> Callable[[object], str]:
    numbers = count()
    return lambda request: str(next(numbers))


def streaming(name: str) -> Flask:
    app = changing(name)
    app.view_functions["orders"] = idempotent(lambda: Response(iter([b"slow"])))
    return app
