"""Applications whose views write to the session, and clients that lose an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cachelib import SimpleCache
from flask import Flask, flash, get_flashed_messages, redirect, session
from flask.testing import FlaskClient
from flask_session import Session

from tests.neighbours.client import replayed, send
from tests.support.clients import WayIn

View = Callable[[], Any]
MakeShop = Callable[..., Flask]


def order() -> Any:
    flash("Order placed")
    return redirect("/thanks", 303)


def log_in() -> str:
    session["user"] = "ann"
    flash("Welcome")
    return ""


def serve(app: Flask, way: WayIn, view: View) -> Flask:
    """Add a view, and what shows and changes the session."""
    # Decorated for one application, a function may not stand undecorated in another.
    app.add_url_rule("/", "view", way(lambda: view()), methods=["POST"])
    app.add_url_rule("/messages", "messages", lambda: [str(m) for m in get_flashed_messages()])
    app.add_url_rule("/session", "session", lambda: dict(session))

    @app.get("/set/<name>/<value>")
    def set_entry(name: str, value: str) -> str:
        session[name] = value
        return ""

    return app


def with_server_sessions(app: Flask) -> Flask:
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=SimpleCache())
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    Session(app)
    return app


def messages(client: FlaskClient) -> list[str]:
    shown: list[str] = client.get("/messages").get_json()
    return shown


def entries(client: FlaskClient) -> dict[str, Any]:
    shown: dict[str, Any] = client.get("/session").get_json()
    shown.pop("_permanent", None)  # Flask-Session's own.
    return shown


def twin(client: FlaskClient) -> FlaskClient:
    """A client with the same session cookie, which gets its own answers."""
    other = client.application.test_client()
    if cookie := client.get_cookie("session"):
        other.set_cookie("session", cookie.value)
    return other


def lose_answer(client: FlaskClient, **options: Any) -> None:
    """Send the first request, whose answer does not reach the client."""
    assert not replayed(send(twin(client), **options))
