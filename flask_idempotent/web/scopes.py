"""Scopes: who a key belongs to, so that nobody gets another caller's response."""

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

#: The parameters that name the caller in schemes whose header changes with every request.
_CALLER_PARAMETERS = {
    "digest": ("username",),
    "aws4-hmac-sha256": ("credential",),
    "aws4-ecdsa-p256-sha256": ("credential",),
    "oauth": ("oauth_consumer_key", "oauth_token"),
    "hawk": ("id",),
    "signature": ("keyid",),
}
#: Entries of a session that do not identify its user: those of Flask, Flask-Login, and the CSRF
#: protection of Flask-WTF and WTForms.
_ANONYMOUS_ENTRIES = frozenset(
    [
        "_flashes",
        "_permanent",
        "_fresh",
        "_id",
        "_remember",
        "_remember_seconds",
        "csrf_token",
        "csrf",
    ]
)


def scope_of(request: Request, settings: Settings) -> str | bytes | None:
    """The caller that the request's key belongs to; None for the one anonymous scope.

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
    """The caller by the headers in ``IDEMPOTENT_SCOPE_HEADERS`` and the user in the session."""
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

    :param headers: the headers that name the caller, sorted: names in lower case, and values as in
        the WSGI environment.
    :param login: Flask-Login's user, ``_user_id`` in the session.
    :param user_id: ``user_id`` in the session.
    """
    scope = ""
    for name, value in headers:
        scope += _scope_part(name, credentials(value) if name == "authorization" else value)
    # No header has a space in its name.
    if login is not None:
        scope += _scope_part("session _user_id", str(login))
    if user_id is not None:
        scope += _scope_part("session user_id", str(user_id))
    return scope or None


def _scope_part(name: str, value: str) -> str:
    # The name is included, so that another header in the setting changes no scope without that
    # header; the lengths, so that no two callers have the same scope.
    return f"{len(name)}:{name}{len(value)}:{value}"


def credentials(header: str) -> str:
    """What names the caller in an Authorization header: all of it, or the user of a signature."""
    scheme, _, rest = header.partition(" ")
    scheme = scheme.lower()
    names = _CALLER_PARAMETERS.get(scheme, ())
    parameters = _caller_parameters(rest, names) if names else []
    if scheme.startswith("aws4-"):
        # The access key is followed by the day, the region and the service.
        parameters = [parameter.partition("/")[0] for parameter in parameters]
    # Where no parameter names the caller, the whole header is the safe choice.
    return f"{scheme} {', '.join(parameters)}" if parameters else header


def _caller_parameters(rest: str, names: tuple[str, ...]) -> list[str]:
    # Empty where another reader of the header may see another caller: where a name occurs twice, in
    # any spelling (RFC 8187 has name*, OAuth percent-encodes), or may occur inside the value of
    # another parameter.
    parameters = {}
    for parameter in parse_list_header(rest):
        name = unquote(parameter.partition("=")[0]).partition("*")[0].strip().lower()
        if name in parameters:
            return []
        if name in names:
            parameters[name] = parameter
    # Possessive quantifiers, so that a header of many spaces takes linear time.
    anywhere = rf'(?:^|[\s,;"])(?:{"|".join(names)})\s*+(?:\*\d*+)?\s*+='
    occurrences = re.findall(anywhere, unquote(rest), re.IGNORECASE)
    return list(parameters.values()) if len(occurrences) == len(parameters) else []


def _users(request: Request) -> tuple[object, object]:
    # Flask-Login's user, and the one of Flask's tutorial.
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
    """The session's entries that may identify the caller, and that the default scope ignores."""
    session = session_of(current_context())
    accessed = session.accessed
    try:
        return sorted(str(name) for name in session if name not in _ANONYMOUS_ENTRIES)
    finally:
        session.accessed = accessed


def _remembered(request: Request, config: Mapping[str, Any]) -> str | None:
    # The cookie names the user already before Flask-Login loads the user into the session.
    cookie = request.cookies.get(config.get("REMEMBER_COOKIE_NAME", "remember_token"))
    if cookie is None:
        return None
    # Non-ASCII characters in the cookie's digest are a TypeError in Flask-Login.
    with suppress(ImportError, TypeError):
        from flask_login import decode_cookie

        user: str | None = decode_cookie(cookie)
        return user
    return None
