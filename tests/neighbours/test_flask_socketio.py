"""Flask-SocketIO: events are not protected; a request that sends one is."""

from __future__ import annotations

import logging

import pytest
from flask import Flask, request
from flask_socketio import SocketIO

from flask_idempotent import OutsideRequest, idempotent
from tests.conftest import MakeApp
from tests.neighbours.client import replayed, send


def any_path(path: str) -> str:
    return path


@pytest.fixture(params=["app-wide", "app-wide, any path", "decorated", "decorated, any path"])
def app(request: pytest.FixtureRequest, make_app: MakeApp) -> Flask:
    """Each way to protect a view, with and without a route that also matches the handshake."""
    way, _, catch_all = request.param.partition(", ")
    app = make_app(wide=way == "app-wide")
    if catch_all:
        app.add_url_rule("/<path:path>", view_func=any_path, methods=["GET", "POST"])
    return app


@pytest.fixture
def socketio(app: Flask) -> SocketIO:
    return SocketIO(app, async_mode="threading")


def test_event_is_called_through(
    app: Flask, socketio: SocketIO, caplog: pytest.LogCaptureFixture
) -> None:
    """A decorated handler runs for each event, whatever the handshake's key; the log says so."""
    runs: list[str] = []

    @socketio.on("order")
    @idempotent
    def order(product: str) -> int:
        runs.append(product)
        return len(runs)

    client = socketio.test_client(app, headers={"Idempotency-Key": "of-the-handshake"})
    with caplog.at_level(logging.WARNING, "flask_idempotent"):
        answers = [client.emit("order", "teapot", callback=True) for _ in range(2)]
    assert answers == [1, 2]
    assert caplog.text.count("is not protected") == 1


def test_event_that_requires_a_key(app: Flask, socketio: SocketIO) -> None:
    """A handler that must not run without a key does not run at all."""

    @socketio.on("order")
    @idempotent(required=True)
    def order(product: str) -> None:
        raise AssertionError("the handler ran")

    client = socketio.test_client(app)
    with pytest.raises(OutsideRequest, match="order"):
        client.emit("order", "teapot", callback=True)


def test_request_that_sends_an_event(app: Flask, socketio: SocketIO) -> None:
    """A protected view emits once for each key; its replay emits nothing."""

    @app.post("/messages")
    @idempotent(required=True)
    def post_message() -> dict[str, str]:
        message = request.get_json()
        socketio.emit("posted", message)
        return {"sent": message["text"]}

    listener, sender = socketio.test_client(app), app.test_client()
    answers = [send(sender, "/messages", json={"text": "hello"}) for _ in range(2)]
    assert [replayed(answer) for answer in answers] == [False, True]
    assert [event["args"] for event in listener.get_received()] == [[{"text": "hello"}]]
