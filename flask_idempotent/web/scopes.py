"""Scopes: who a key belongs to, so that nobody gets a response meant for another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from werkzeug.http import parse_list_header

from flask_idempotent.http.keys import is_identifier
from flask_idempotent.web.flask_compat import current_context, session_of

if TYPE_CHECKING:
    from flask import Request

    from flask_idempotent.settings import Settings

#: What names the caller in schemes whose header changes with every request, in lower case.
_STEADY_PARTS = {
    "digest": ("username",),
    "aws4-hmac-sha256": ("credential",),
    "aws4-ecdsa-p256-sha256": ("credential",),
    "oauth": ("oauth_consumer_key", "oauth_token"),
    "hawk": ("id",),
    "signature": ("keyid",),
}
#: Entries of a session that say nothing of its owner: those of Flask, Flask-WTF and Flask-Login.
_SAYING_NOTHING = frozenset(
    {"_flashes", "_permanent", "csrf_token", "_fresh", "_id", "_remember", "_remember_seconds"}
)


def scope_of(request: Request, settings: Settings) -> str | bytes | None:
    """Say who the request's key belongs to; None is the one shared anonymous scope.

    :raises TypeError: when the application's own function returns something else.
    """
    if settings.scope is None:
        return default_scope(request, settings)
    scope = settings.scope(request)
    if scope is None or isinstance(scope, str | bytes):
        return scope
    if is_identifier(scope):
        return str(scope)
    raise TypeError(
        f"a scope function must return str, bytes, int, UUID or None, not {type(scope).__name__}"
    )


def default_scope(request: Request, settings: Settings) -> str | None:
    """The caller by the headers of ``IDEMPOTENT_SCOPE_HEADERS`` and by the session's user."""
    headers = []
    for name, environ_name in settings.scope_environ_names:
        value = request.environ.get(environ_name)
        if value is not None:
            headers.append((name, value))
    return scope_of_caller(headers, *_users(request))


def scope_of_caller(
    headers: Iterable[tuple[str, str]], login: object, user_id: object
) -> str | None:
    """The default scope of a caller.

    :param headers: the headers that name the caller, in the order of their names, which are in
        lower case, with their values as WSGI hands them over.
    :param login: Flask-Login's user.
    :param user_id: what the session has as ``user_id``.
    """
    scope = ""
    for name, value in headers:
        scope += _part(name, credentials(value) if name == "authorization" else value)
    # No header has a space in its name.
    if login is not None:
        scope += _part("session _user_id", str(login))
    if user_id is not None:
        scope += _part("session user_id", str(user_id))
    return scope or None


def _part(name: str, value: str) -> str:
    # With its name, so that one more header in the setting changes no scope that lacks it; behind
    # lengths, so that no two callers look alike.
    return f"{len(name)}:{name}{len(value)}:{value}"


def credentials(header: str) -> str:
    """The steady part of an Authorization header: all of it, or the user where it is signed."""
    scheme, _, rest = header.partition(" ")
    scheme = scheme.lower()
    found = _naming_parts(rest, _STEADY_PARTS[scheme]) if scheme in _STEADY_PARTS else []
    if scheme.startswith("aws4-"):
        # Behind the access key stand the day, the region and the service.
        found = [part.partition("/")[0] for part in found]
    # Without the part that names the caller, the whole header is the safe choice.
    return f"{scheme} {', '.join(found)}" if found else header


def _naming_parts(rest: str, names: tuple[str, ...]) -> list[str]:
    # Empty where another reader of the header may see another caller: where a name is given twice,
    # in whatever spelling (RFC 8187 has name*, OAuth percent-encodes), or seems to stand inside
    # another parameter's value.
    found = {}
    for part in parse_list_header(rest):
        name = unquote(part.partition("=")[0]).partition("*")[0].strip().lower()
        if name in found:
            return []
        if name in names:
            found[name] = part
    # Possessive, so that a header of many spaces takes linear time.
    anywhere = rf'(?:^|[\s,;"])(?:{"|".join(names)})\s*+(?:\*\d*+)?\s*+='
    seen = re.findall(anywhere, unquote(rest), re.IGNORECASE)
    return list(found.values()) if len(seen) == len(found) else []


def _users(request: Request) -> tuple[object, object]:
    # Flask-Login's user, and that of Flask's tutorial.
    context = current_context()
    session = session_of(context)
    accessed, login, user_id, remember = session.accessed, None, None, None
    try:
        if session:
            login, user_id = session.get("_user_id"), session.get("user_id")
            remember = session.get("_remember")
    finally:
        session.accessed = accessed
    if login is None and remember != "clear" and hasattr(context.app, "login_manager"):
        login = _remembered(request, context.app.config)
    return login, user_id


def unread_entries() -> list[str]:
    """Name the session's entries that may say who is asking, where the default scope cannot."""
    session = session_of(current_context())
    accessed = session.accessed
    try:
        return sorted(str(name) for name in session if name not in _SAYING_NOTHING)
    finally:
        session.accessed = accessed


def _remembered(request: Request, config: Mapping[str, Any]) -> str | None:
    # Flask-Login's cookie names the user before the view has Flask-Login write the session.
    cookie = request.cookies.get(config.get("REMEMBER_COOKIE_NAME", "remember_token"))
    if cookie is None:
        return None
    # Digits that are no ASCII are a TypeError.
    with suppress(ImportError, TypeError):
        from flask_login import decode_cookie

        user: str | None = decode_cookie(cookie)
        return user
    return None
