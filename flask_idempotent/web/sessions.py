"""Sessions: looking at a session without using it, and what a replay says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask.globals import request_ctx

if TYPE_CHECKING:
    from flask.sessions import SessionMixin


def unused_session(context: Any) -> SessionMixin:
    """The request's session, which this does not mark as accessed, unlike ``flask.session``.

    Before Flask 3.1.3 reading one of its entries still does.

    :param context: the request's context.
    """
    session: SessionMixin = context._session if hasattr(context, "_session") else context.session
    return session


def was_accessed() -> bool:
    """Say whether the answer to this request varies by the session."""
    context = request_ctx._get_current_object()  # type: ignore[attr-defined]
    session = unused_session(context)
    return session.accessed and not context.app.session_interface.is_null_session(session)
