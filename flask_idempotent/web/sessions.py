"""Sessions: whether a view used the session, so that its replays need ``Vary: Cookie`` too."""

from __future__ import annotations

from flask_idempotent.web.flask_compat import current_context, session_of


def was_accessed() -> bool:
    """Whether the session of this request was used, so that the response varies by the cookie."""
    context = current_context()
    session = session_of(context)
    return session.accessed and not context.app.session_interface.is_null_session(session)
