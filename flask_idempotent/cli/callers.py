"""Who sent a request: the options that say it, and the scope that follows from them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import click
from flask import Flask
from flask.testing import EnvironBuilder
from werkzeug.exceptions import HTTPException

from flask_idempotent._printable import printable
from flask_idempotent.http.webhooks import EndpointScope
from flask_idempotent.settings import Settings
from flask_idempotent.web.protection import Protection
from flask_idempotent.web.scopes import scope_of_caller
from flask_idempotent.web.state import state_of


class Caller(NamedTuple):
    """The options that say who sent the request."""

    scope: str | None = None
    headers: tuple[str, ...] = ()
    user: str | None = None
    user_id: str | None = None


_CALLER_OPTIONS = (
    click.option("--scope", metavar="VALUE", help="What your scope function returned."),
    click.option(
        "--scope-header",
        "scope_headers",
        metavar="NAME",
        multiple=True,
        help="Ask for the value of this request header (default scope).",
    ),
    click.option("--user", metavar="ID", help="Flask-Login's user (default scope)."),
    click.option("--user-id", metavar="ID", help="The session's user_id (default scope)."),
    click.option("--path", help="The request's path, if its view has a scope function."),
    click.option("--method", default="POST", show_default=True, help="The request's method."),
)


def caller_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say who sent the request, and to which view.

    It gets them as ``caller``, ``path`` and ``method``.
    """

    @wraps(command)
    def with_caller(
        scope: str | None,
        scope_headers: tuple[str, ...],
        user: str | None,
        user_id: str | None,
        method: str,
        **others: Any,
    ) -> None:
        caller = Caller(scope, scope_headers, user, user_id)
        command(caller=caller, method=method.upper(), **others)

    for option in reversed(_CALLER_OPTIONS):
        with_caller = option(with_caller)
    return with_caller


def settings_at(app: Flask, path: str | None, method: str) -> Settings:
    """Return the settings of the view that a request would reach; the application's without a path.

    :raises click.BadParameter: when it would reach none, or one that is not protected.
    """
    if path is None:
        return state_of(app).settings()
    protection = protection_at(app, path, method)
    if not protection.claims:
        raise click.BadParameter(
            f"{printable(f'{method} {path}')} is not protected: its requests have no records.",
            param_hint="--path",
        )
    return protection.settings


def protection_at(app: Flask, path: str, method: str) -> Protection:
    """Find the protection of the view that a request would reach.

    :raises click.BadParameter: when it would reach none.
    """
    request_line = printable(f"{method} {path}")
    try:
        builder = EnvironBuilder(app, path, method=method)
        adapter = app.create_url_adapter(app.request_class(builder.get_environ()))
        assert adapter is not None, "there is a request"
        rule, _ = adapter.match(return_rule=True)
    except ValueError:
        raise click.BadParameter(f"{path!r} is not a path.", param_hint="--path") from None
    except HTTPException as refusal:
        raise click.BadParameter(
            f"{request_line} matches no route: {refusal.name}.", param_hint="--path"
        ) from None
    return state_of(app).protections.of(rule.endpoint, method)


def scope_of(settings: Settings, caller: Caller) -> str | None:
    """Return the scope of a caller; None for the anonymous one.

    :raises click.UsageError: when the options are not those of these settings.
    """
    if settings.scope is not None:
        if caller != Caller(caller.scope):
            raise click.UsageError(_CUSTOM_SCOPE)
        return caller.scope
    if caller.scope is not None:
        raise click.UsageError(_DEFAULT_SCOPE.format(header_names(settings)))
    for name in caller.headers:
        if name.lower() not in settings.scope_headers:
            raise click.BadParameter(
                f"{name} is not in IDEMPOTENT_SCOPE_HEADERS, which has {header_names(settings)}.",
                param_hint="--scope-header",
            )
    headers = {name.lower(): _ask_header(name) for name in caller.headers}
    return scope_of_caller(sorted(headers.items()), caller.user, caller.user_id)


def endpoint_scope(app: Flask, settings: Settings, path: str, method: str) -> str | None:
    """Return the scope of an endpoint for webhooks, which follows from its path."""
    if not isinstance(settings.scope, EndpointScope):
        return None
    with app.test_request_context(path, method=method) as context:
        return settings.scope(context.request)


def header_names(settings: Settings) -> str:
    """Write the names of the scope headers."""
    return ", ".join(name.title() for name in sorted(settings.scope_headers)) or "no header"


def _ask_header(name: str) -> str:
    # Not an argument: other users see those in the process list, and the shell records them.
    if sys.stdin.isatty():
        header: str = click.prompt(name, hide_input=True, err=True)
    else:
        header = sys.stdin.readline()
    # As WSGI decodes headers (PEP 3333).
    return header.strip().encode().decode("latin-1")


_DEFAULT_SCOPE = (
    "--scope is for views with a scope function. Here the scope consists of headers ({}) and the "
    "session's user: use --scope-header NAME, --user and --user-id, or add --path to choose "
    "another view."
)
_CUSTOM_SCOPE = (
    "--scope-header, --user and --user-id are for the default scope. Here a scope function is set: "
    "give what it returned as --scope, or add --path to choose another view."
)
