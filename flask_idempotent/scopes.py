"""Scopes: who a key belongs to, so that nobody gets a response meant for another."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flask.globals import request_ctx
from werkzeug.http import parse_list_header

from flask_idempotent.keys import is_identifier
from flask_idempotent.sessions import unused_session

if TYPE_CHECKING:
    from flask import Request

    from flask_idempotent.settings import Settings

#: What names the caller in schemes whose header changes with every request, in lower case.
_STEADY_PARTS = {
    "digest": ("username", "username*"),
    "aws4-hmac-sha256": ("credential",),
    "aws4-ecdsa-p256-sha256": ("credential",),
    "oauth": ("oauth_consumer_key", "oauth_token"),
    "hawk": ("id",),
    "signature": ("keyid",),
}
#: What Flask-Login keeps in the session.
_USER, _REMEMBER = "_user_id", "_remember"


def scope_of(request: Request, settings: Settings) -> str | bytes | None:
    """Say who the request's key belongs to; None is the one shared anonymous scope.

    :raises TypeError: when the application's own function returns something else.
    """
    if settings.scope is None:
        return default_scope(request)
    scope = settings.scope(request)
    if scope is None or isinstance(scope, str | bytes):
        return scope
    if is_identifier(scope):
        return str(scope)
    raise TypeError(
        f"a scope function must return str, bytes, int, UUID or None, not {type(scope).__name__}"
    )


def default_scope(request: Request) -> str | None:
    """The caller by the Authorization header and by Flask-Login's user."""
    return scope_of_caller(request.environ.get("HTTP_AUTHORIZATION"), _login(request))


def scope_of_caller(authorization: str | None, user: str | None) -> str | None:
    """The default scope of a caller.

    :param authorization: the header as WSGI hands it over.
    :param user: the id that Flask-Login keeps in the session.
    """
    parts = (credentials(authorization), user)
    if parts == (None, None):
        return None
    # Each behind its length: no header can look like a header and a user.
    return "".join("-" if part is None else f"{len(part)}:{part}" for part in parts)


def credentials(header: str | None) -> str | None:
    """The steady part of an Authorization header: all of it, or the user where it is signed."""
    if header is None:
        return None
    scheme, _, rest = header.partition(" ")
    names = _STEADY_PARTS.get(scheme.lower(), ())
    parts = parse_list_header(rest) if names else []
    found = [part for part in parts if part.partition("=")[0].strip().lower() in names]
    if scheme.lower().startswith("aws4-"):
        # Behind the access key stand the day, the region and the service.
        found = [part.partition("/")[0] for part in found]
    # Without the part that names the caller, the whole header is the safe choice.
    return f"{scheme.lower()} {', '.join(found)}" if found else header


def _login(request: Request) -> str | None:
    context = request_ctx._get_current_object()  # type: ignore[attr-defined]
    session = unused_session(context)
    accessed, user, forgotten = session.accessed, None, False
    try:
        if session:
            user = session.get(_USER)
            forgotten = session.get(_REMEMBER) == "clear"
    finally:
        session.accessed = accessed
    if user is None and not forgotten and hasattr(context.app, "login_manager"):
        user = _remembered(request, context.app.config)
    return None if user is None else str(user)


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
