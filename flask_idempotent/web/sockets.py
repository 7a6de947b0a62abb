"""Sockets: the events of a WebSocket, which share the request that opened it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask_idempotent.web.marks import belongs_to

if TYPE_CHECKING:
    from flask import Request

#: What Flask-SocketIO's ``request.event`` has, the only one of its marks that no application sets.
_PARTS_OF_EVENT = {"message", "args"}


def is_event(function: Callable[..., Any], view: object, request: Request) -> bool:
    """Whether a decorated function is called for an event of a socket.

    The request is that of the handshake then: its key belongs to no single event, and what the
    function returns goes to the socket, not into a response.

    :param view: the view of the request's route. An application with a route for any path has one
        for Flask-SocketIO's handshake too.
    """
    event = getattr(request, "event", None)
    if isinstance(event, dict) and event.keys() == _PARTS_OF_EVENT and hasattr(request, "sid"):
        return True
    rule = request.url_rule
    if rule is None or not rule.websocket:
        return False
    return not belongs_to(function, view, request.method)
