"""Sessions: looking at a session without using it, and what a replay says of it."""

from __future__ import annotations

from flask_idempotent.web.flask_compat import current_context, session_of


def was_accessed() -> bool:
    """Say whether the answer to this request varies by the session."""
    context = current_context()
    session = session_of(context)
    return session.accessed and not context.app.session_interface.is_null_session(session)
