"""Sockets: a decorated function that is called for an event has no key, whatever matched."""

from __future__ import annotations

from typing import Any

import pytest
from flask import request

from flask_idempotent import OutsideRequest, idempotent
from flask_idempotent.web.state import state_of
from tests.conftest import MakeApp
from tests.support.clients import post
from tests.support.faulty_store import FaultyStore

KEY = {"Idempotency-Key": "k"}


@idempotent
def placed() -> dict[str, bool]:
    return {"placed": True}


@idempotent(methods=["GET"])
def looked_up() -> dict[str, bool]:
    return {"found": True}


@idempotent(required=True)
def requiring() -> str:
    return "ran"


def mark_as_event(request: Any) -> None:
    """Mark a request as Flask-SocketIO does."""
    request.sid, request.namespace = "client", "/"
    request.event = {"message": "order", "args": ()}


class TestEvents:
    @pytest.mark.parametrize("wide", [False, True])
    def test_without_a_route(
        self, make_app: MakeApp, caplog: pytest.LogCaptureFixture, wide: bool
    ) -> None:
        """Events share the handshake's request: its key is not theirs, which is logged once."""
        app, store = make_app(wide=wide), FaultyStore()
        environ = app.test_request_context("/socket.io/", headers=KEY).request.environ
        with state_of(app).using_store(store):
            for _ in "12":
                with app.request_context(environ):
                    assert placed() == {"placed": True}
        assert caplog.text.count("the call is not protected") == 1
        assert store.calls == []

    @pytest.mark.parametrize("wide", [False, True])
    def test_under_a_route_for_any_path(
        self, make_app: MakeApp, caplog: pytest.LogCaptureFixture, wide: bool
    ) -> None:
        """A route that matches the handshake too does not make an event a request to its view."""
        app, store = make_app(wide=wide), FaultyStore()
        app.add_url_rule("/<path:path>", "page", lambda path: path, methods=["GET", "POST"])
        opened = app.test_request_context("/socket.io/", headers=KEY)
        with state_of(app).using_store(store), opened as context:
            mark_as_event(context.request)
            assert placed() == {"placed": True}
            assert looked_up() == {"found": True}
            with pytest.raises(OutsideRequest, match="for an event of a WebSocket"):
                requiring()
        assert caplog.text.count("the call is not protected") == 2
        assert store.calls == []

    def test_in_a_view_for_websockets(self, make_app: MakeApp) -> None:
        """What such a view calls for a message returns its value, and is refused if it needs a key.

        The view itself is opened as if it carried no key (W5).
        """
        app, store, values = make_app(wide=False), FaultyStore(), []

        def talk() -> str:
            values.append(looked_up())
            with pytest.raises(OutsideRequest, match="requires a key"):
                requiring()
            return ""

        app.add_url_rule("/socket", "socket", talk, websocket=True)
        app.add_url_rule("/own", "own", idempotent(required=True)(talk), websocket=True)
        headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
        with state_of(app).using_store(store):
            for path in ("/socket", "/own"):
                answer = post(app, path=path, method="GET", headers=headers)
                assert answer.status_code == 200
        assert values == [{"found": True}] * 2
        assert store.calls == []

    @pytest.mark.parametrize("name", ["sid", "namespace", "event"])
    def test_attributes_of_an_application(self, make_app: MakeApp, name: str) -> None:
        """What an application notes on its requests makes none of them an event."""
        app, runs = make_app(wide=False), []

        @app.before_request
        def note() -> None:
            setattr(request, name, {"message": "its own"})

        @app.post("/")
        @idempotent
        def view() -> str:
            runs.append("run")
            return "ran"

        assert [post(app).text for _ in "12"] == ["ran"] * 2
        assert runs == ["run"]
