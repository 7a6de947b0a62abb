"""Sessions: what a view does with the session of its request, and what its replays repeat of it.

Flask's session cookie is a header of one answer. A browser that sends a form twice shows the second
answer, the replay, so a message of ``flash()`` would be lost with the first. What a view changes in
the entries of ``replay_session`` is kept with its response, and made again in the session of each
replay's own request.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from flask_idempotent._logging import logger
from flask_idempotent.web.flask_compat import RequestContext, current_context, session_of
from flask_idempotent.web.session_changes import SessionChanges

if TYPE_CHECKING:
    from flask.sessions import SessionMixin

    from flask_idempotent.settings import Settings
    from flask_idempotent.web.protected_request import ProtectedRequest


class SessionUse:
    """What a view does with the session of its request. It is made before the view runs.

    :param settings: the settings of the view.
    """

    __slots__ = ("_accessed_before", "_before", "_context", "_request_session", "_settings")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context = context = current_context()
        self._request_session = session = session_of(context)
        self._accessed_before = accessed = session.accessed
        self._before: dict[str, Any] | None = None
        if settings.replay_session:
            try:
                self._before = _copy(session, settings.replay_session)
            except Exception as error:
                self._report(error)
            session.accessed = accessed

    @property
    def adds_vary(self) -> bool:
        """Whether the view used the session and nothing before it did: Flask adds ``Vary`` then."""
        return (
            not self._accessed_before
            and self._request_session.accessed
            and not _is_null(self._context, self._request_session)
        )

    def changes(self) -> bytes:
        """Return what replays repeat of the session, as a record keeps it; empty for nothing."""
        settings, session, before = self._settings, self._request_session, self._before
        if before is None or not session.modified or _is_null(self._context, session):
            return b""
        accessed = session.accessed
        try:
            changes = SessionChanges.between(before, dict(session), settings.replay_session)
            data = changes.encode() if changes else b""
        except Exception as error:
            self._report(error)
            return b""
        finally:
            session.accessed = accessed
        if len(data) > settings.max_body:
            logger.warning(_TOO_LARGE, self._context.request.endpoint, len(data))
            return b""
        return data

    def _report(self, error: Exception) -> None:
        # Its text might show what the session has.
        logger.error(_NOT_KEPT, self._context.request.endpoint, type(error).__name__)


def repeat_changes(current: ProtectedRequest, data: bytes) -> None:
    """Make the changes again that a view made in its session, in that of a replay's own request.

    Where that fails, the replay goes out without them.

    :param data: what ``SessionUse.changes`` returned.
    :raises RecordUnreadable: when it never returned this.
    """
    # Only these, because another program may have written the record.
    changes = SessionChanges.decode(data).only(current.settings.replay_session)
    context = current_context()
    session = session_of(context)
    if not changes or _is_null(context, session):
        return
    try:
        _reload(context, session)
        if changes.changed_others and _is_from_script(current):
            # Its page gets the first response too, unlike that of a form. The cookie of this one
            # would put back what the first one changed besides, such as a login.
            return
        changes.repeat(session)
    except Exception as error:
        logger.error(_NOT_REPEATED, current.request.endpoint, type(error).__name__)


def _reload(context: RequestContext, session: SessionMixin) -> None:
    """Read a session again that a server keeps, if nothing has changed it.

    The first request may have saved it while this one waited, and saving an old state would undo
    that.
    """
    session_id = getattr(session, "sid", None)
    if session_id is None or session.modified or not isinstance(session, dict):
        return
    saved: Any = context.app.session_interface.open_session(context.app, context.request)
    if getattr(saved, "sid", None) == session_id:
        # The methods of dict itself, which do not count as a change.
        dict.clear(session)
        dict.update(session, saved)


def _is_from_script(current: ProtectedRequest) -> bool:
    # A header that browsers set, and scripts cannot (Fetch Metadata, section 2.2).
    return current.request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate"


def _is_null(context: RequestContext, session: SessionMixin) -> bool:
    return context.app.session_interface.is_null_session(session)


def _copy(session: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Copy a session, and the values of these entries, which a view may change in place."""
    entries = dict(session)
    for name in names:
        if name in entries:
            entries[name] = deepcopy(entries[name])
    return entries


_NOT_KEPT = (
    "replays of %s repeat nothing of the session: %s. The entries that replay_session names must "
    "have values that Flask's session cookie can carry"
)
_TOO_LARGE = (
    "replays of %s repeat nothing of the session, because what the view wrote to the entries of "
    "replay_session takes %d bytes, which is more than max_body"
)
_NOT_REPEATED = "a replay of %s repeats nothing of the session, because that failed: %s"
