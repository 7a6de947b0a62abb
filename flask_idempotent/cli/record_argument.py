"""Which record a command is about: by the client's own key, or by the record's name.

The store has no client's key, only a digest of the namespace, the scope and the key. So whoever
looks for a key says whose it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple

import click
from flask import Flask
from flask.cli import with_appcontext
from flask.testing import EnvironBuilder
from werkzeug.exceptions import HTTPException

from flask_idempotent._printable import printable
from flask_idempotent.cli.options import this_app
from flask_idempotent.http.keys import UnusableKey, parse_header, storage_key
from flask_idempotent.settings import EngineSettings, Settings
from flask_idempotent.web.protection import Protection
from flask_idempotent.web.scopes import scope_of_caller
from flask_idempotent.web.state import state_of


@dataclass(frozen=True, slots=True)
class Named:
    """The record that a command is about.

    :param storage_key: its name.
    :param missing: what to say when there is none.
    :param settings: the settings of its view that the engine keeps to.
    """

    storage_key: str
    missing: str
    settings: EngineSettings


class _Caller(NamedTuple):
    """What was said of who sent the request."""

    scope: str | None = None
    headers: tuple[str, ...] = ()
    user: str | None = None
    user_id: str | None = None


_OPTIONS = (
    click.argument("key"),
    click.option("--scope", metavar="VALUE", help="What your scope function returned."),
    click.option(
        "--header",
        "headers",
        metavar="NAME",
        multiple=True,
        help="Ask for this header of the request, of the default scope.",
    ),
    click.option("--user", metavar="ID", help="Flask-Login's user, of the default scope."),
    click.option("--user-id", metavar="ID", help="The session's user_id, of the default scope."),
    click.option("--path", help="The request's path, for views with a scope of their own."),
    click.option("--method", default="POST", show_default=True, help="The request's method."),
    click.option(
        "--storage-key",
        "is_name",
        is_flag=True,
        help="KEY is the name of a record, from a list or a log line.",
    ),
)


def names_a_record(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument KEY and its options; it gets a ``Named`` for them."""

    @wraps(command)
    def named(
        key: str,
        scope: str | None,
        headers: tuple[str, ...],
        user: str | None,
        user_id: str | None,
        path: str | None,
        method: str,
        is_name: bool,
        **others: Any,
    ) -> None:
        app = this_app()
        caller = _Caller(scope, headers, user, user_id)
        if is_name:
            if caller != _Caller() or path is not None:
                raise click.UsageError("A record's name says it all: leave out whose key it is.")
            record = _by_name(state_of(app).settings(), key)
        else:
            settings = _settings(app, path, method.upper())
            record = _by_key(app, settings, _scope(settings, caller), key)
        command(record, **others)

    with_app: Callable[..., None] = with_appcontext(named)
    for option in reversed(_OPTIONS):
        with_app = option(with_app)
    return with_app


def _by_name(settings: Settings, name: str) -> Named:
    prefix = settings.prefix
    if not re.fullmatch(re.escape(prefix) + r"\{[\w-]{22}\}", name, re.ASCII):
        raise click.BadParameter(
            f"{name!r} is no record's name: it must look like {prefix}{{22 letters and digits}}. "
            "Put it in single quotes.",
            param_hint="KEY",
        )
    return Named(name, f"There is no record {name}.", settings.engine)


def _by_key(app: Flask, settings: Settings, caller: str | None, key: str) -> Named:
    if key.startswith('"') and settings.key is None:
        # As the client sent it: "k" and k are one key.
        try:
            key = parse_header(key, settings.key_max_length)
        except UnusableKey as error:
            raise click.BadParameter(str(error), param_hint="KEY") from None
    whose = "in the anonymous scope" if caller is None else "in this scope"
    missing = f"There is no record of the key {key!r} {whose}."
    if caller is None:
        missing += _WHOSE_CUSTOM if settings.scope else _WHOSE_DEFAULT.format(_names(settings))
    name = storage_key(settings.prefix, settings.namespace or app.name, caller, key)
    return Named(name, missing, settings.engine)


def _settings(app: Flask, path: str | None, method: str) -> Settings:
    if path is None:
        return state_of(app).settings()
    found = protection_at(app, path, method)
    if not found.claims:
        raise click.BadParameter(
            f"{printable(f'{method} {path}')} is not protected: its requests have no records.",
            param_hint="--path",
        )
    return found.settings


def protection_at(app: Flask, path: str, method: str) -> Protection:
    """Find what protects the view that a request would reach.

    :raises click.BadParameter: when it would reach none.
    """
    asked = printable(f"{method} {path}")
    try:
        builder = EnvironBuilder(app, path, method=method)
        adapter = app.create_url_adapter(app.request_class(builder.get_environ()))
        assert adapter is not None, "there is a request"
        rule, _ = adapter.match(return_rule=True)
    except ValueError:
        raise click.BadParameter(f"{path!r} is no path.", param_hint="--path") from None
    except HTTPException as refusal:
        raise click.BadParameter(
            f"{asked} leads to no view: {refusal.name}.", param_hint="--path"
        ) from None
    return state_of(app).protections.of(rule.endpoint, method)


def _scope(settings: Settings, caller: _Caller) -> str | None:
    if settings.scope is not None:
        if caller != _Caller(caller.scope):
            raise click.UsageError(_CUSTOM_SCOPE)
        return caller.scope
    if caller.scope is not None:
        raise click.UsageError(_DEFAULT_SCOPE.format(_names(settings)))
    for name in caller.headers:
        if name.lower() not in settings.scope_headers:
            raise click.BadParameter(
                f"{name} is not in IDEMPOTENT_SCOPE_HEADERS, which has {_names(settings)}.",
                param_hint="--header",
            )
    headers = {name.lower(): _ask_header(name) for name in caller.headers}
    return scope_of_caller(sorted(headers.items()), caller.user, caller.user_id)


def _names(settings: Settings) -> str:
    return ", ".join(name.title() for name in sorted(settings.scope_headers)) or "no header"


def _ask_header(name: str) -> str:
    # Never an argument, which others could read in the list of processes or the shell's history.
    if sys.stdin.isatty():
        header: str = click.prompt(name, hide_input=True, err=True)
    else:
        header = sys.stdin.readline()
    # As WSGI hands it over.
    return header.strip().encode().decode("latin-1")


_WHOSE_DEFAULT = (
    "\nA request with a header that names its caller ({}) or a user in its session has a scope of "
    "its own: add --header NAME for each, --user or --user-id, and --path for a view with a scope "
    "function."
)
_WHOSE_CUSTOM = "\nSay what your scope function returned for the request: --scope VALUE."
_DEFAULT_SCOPE = (
    "--scope is for views with a scope function. Here the scope is made of headers ({}) and the "
    "session's user: use --header NAME, --user and --user-id, or add --path to name another view."
)
_CUSTOM_SCOPE = (
    "--header, --user and --user-id are for the default scope. Here a scope function says whose a "
    "key is: give what it returned as --scope, or add --path to name another view."
)
