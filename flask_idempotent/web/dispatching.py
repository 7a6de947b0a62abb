"""Dispatching: protects the views that no decorator protects, before Flask calls them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from flask_idempotent.web.flask_compat import Dispatch, current_request, wrap_dispatch_request
from flask_idempotent.web.handler import handle
from flask_idempotent.web.state import EXTENSION_KEY

if TYPE_CHECKING:
    from flask import Flask

_protecting: WeakSet[Flask] = WeakSet()


def protect_dispatching(app: Flask) -> None:
    """Have the application's dispatching protect the views that no decorator protects."""
    if app not in _protecting:
        _protecting.add(app)
        wrap_dispatch_request(app, partial(_protected_dispatch, app))


def _protected_dispatch(app: Flask, dispatch: Dispatch) -> Dispatch:
    def protected_dispatch(*context: Any) -> Any:
        request = current_request()
        state = app.extensions[EXTENSION_KEY]
        protection = state.protections.of_request(request)
        # Flask itself answers routing errors, among them the redirect to a path with a slash.
        if (
            protection is None
            or not protection.dispatched
            or request.routing_exception is not None
            or not state.may_carry_key(request, protection.settings)
        ):
            return dispatch(*context)
        return handle(state, protection.settings, request, partial(dispatch, *context))

    return protected_dispatch
