"""Sockets: the events of a WebSocket, which share the request that opened it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flask_idempotent.web.marks import belongs_to

if TYPE_CHECKING:
    from flask import Request

#: What Flask-SocketIO's ``request.event`` has, the only one of its marks that no application sets.
_PARTS_OF_EVENT = {"message", "args"}


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
    event = getattr(request, "event", None)
    if isinstance(event, dict) and event.keys() == _PARTS_OF_EVENT and hasattr(request, "sid"):
        return True
    rule = request.url_rule
    if rule is None or not rule.websocket:
        return False
    return not belongs_to(function, views.get(rule.endpoint), request.method)
