"""Sockets: the events of a WebSocket, which share the request that opened it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flask_idempotent.web.marks import belongs_to

if TYPE_CHECKING:
    from flask import Request

#: What Flask-SocketIO sets on the request of an event: the client's id.
_CLIENT_ID = "sid"


def is_event(
    function: Callable[..., Any], request: Request, views: Mapping[str, Callable[..., Any]]
) -> bool:
    """Whether a decorated function is called for an event of a socket.

    The request is that of the handshake then: its key belongs to no single event, and what the
    function returns goes to the socket, not into a response.

    :param request: the request, which a route matched: an application with a route for any path
        has one for Flask-SocketIO's handshake too.
    :param views: the application's views by their endpoints.
    """
    if _CLIENT_ID in request.__dict__:
        return True
    rule = request.url_rule
    if rule is None or not rule.websocket:
        return False
    return not belongs_to(function, views.get(rule.endpoint), request.method)
