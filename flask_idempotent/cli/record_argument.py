"""The argument KEY: which record a command is about.

The store has no client's keys, only digests of namespace, scope and key. So to find the record of
a client's key, the command must know its scope.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, NamedTuple

import click
from flask import Flask
from flask.cli import with_appcontext
from flask.testing import EnvironBuilder
from werkzeug.exceptions import HTTPException

from flask_idempotent._printable import printable
from flask_idempotent.cli.options import Refused, this_app
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.http.keys import UnusableKey, parse_header, storage_key
from flask_idempotent.http.webhooks import EndpointScope
from flask_idempotent.records import (
    CompletedRecord,
    CompletedSummary,
    ReleasedRecord,
    RunningRecord,
)
from flask_idempotent.settings import EngineSettings, Settings
from flask_idempotent.stores.base import RecordInfo
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.web.protection import Protection
from flask_idempotent.web.scopes import scope_of_caller
from flask_idempotent.web.state import state_of


@dataclass(frozen=True, slots=True)
class RecordRef:
    """The record that a command is about, whether it exists or not.

    :param storage_key: its name in the store.
    :param not_found: the error message for when it does not exist.
    :param settings: the settings of its view that the engine uses.
    """

    storage_key: str
    not_found: str
    settings: EngineSettings


class _Caller(NamedTuple):
    """The options that say who sent the request."""

    scope: str | None = None
    headers: tuple[str, ...] = ()
    user: str | None = None
    user_id: str | None = None


_OPTIONS = (
    click.argument("key"),
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
    click.option(
        "--storage-key",
        "is_storage_key",
        is_flag=True,
        help="KEY is a storage key, as in list and in log lines.",
    ),
)


def record_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument KEY and its options; it gets them as one ``RecordRef``."""

    @wraps(command)
    def with_ref(
        key: str,
        scope: str | None,
        scope_headers: tuple[str, ...],
        user: str | None,
        user_id: str | None,
        path: str | None,
        method: str,
        is_storage_key: bool,
        **others: Any,
    ) -> None:
        app = this_app()
        caller = _Caller(scope, scope_headers, user, user_id)
        if is_storage_key:
            if caller != _Caller() or path is not None:
                raise click.UsageError(
                    "A storage key already includes the scope, so leave out --scope, "
                    "--scope-header, --user, --user-id and --path."
                )
            ref = _by_storage_key(state_of(app).settings(), key)
        else:
            settings = _settings(app, path, method.upper())
            client_scope = _scope(settings, caller)
            if client_scope is None and path is not None:
                client_scope = _endpoint_scope(app, settings, path, method.upper())
            ref = _by_key(app, settings, client_scope, key)
        command(ref, **others)

    with_app: Callable[..., None] = with_appcontext(with_ref)
    for option in reversed(_OPTIONS):
        with_app = option(with_app)
    return with_app


def find_record(
    store: InspectableStore, ref: RecordRef
) -> tuple[RecordInfo, CompletedRecord | None]:
    """Find a record, and its whole response if it is completed.

    :raises Refused: when there is no such record.
    """
    for info in store.inspect([ref.storage_key]):
        if not isinstance(info.record, CompletedSummary):
            return info, None
        try:
            record = store.read(ref.storage_key)
        except RecordUnreadable as error:
            return replace(info, record=None, damage=str(error)), None
        if isinstance(record, CompletedRecord):
            return info, record
    raise Refused(ref.not_found)


def settings_of(app: Flask, record: RunningRecord | ReleasedRecord | CompletedRecord) -> Settings:
    """Find the settings of the view that a record is for; the application's if it has no such."""
    protections = state_of(app).protections
    try:
        return protections.of(record.endpoint, record.method).settings
    except KeyError:
        return protections.settings()


def _by_storage_key(settings: Settings, key: str) -> RecordRef:
    prefix = settings.prefix
    if not re.fullmatch(re.escape(prefix) + r"\{([\w-]{11})?[\w-]{22}\}", key, re.ASCII):
        raise click.BadParameter(
            f"{key!r} is not a storage key: it must look like {prefix}{{22 characters}}, or "
            "33 with IDEMPOTENT_NAME_SECRET. "
            "Put it in single quotes.",
            param_hint="KEY",
        )
    return RecordRef(key, f"There is no record {key}.", settings.engine)


def _by_key(app: Flask, settings: Settings, scope: str | None, key: str) -> RecordRef:
    if key.startswith('"') and settings.key is None:
        # A header may quote its key: "k" and k are the same key.
        try:
            key = parse_header(key, settings.key_max_length)
        except UnusableKey as error:
            raise click.BadParameter(str(error), param_hint="KEY") from None
    where = "the anonymous scope" if scope is None else "this scope"
    not_found = f"There is no record of the key {key!r} in {where}."
    if scope is None:
        not_found += _CUSTOM_HINT if settings.scope else _DEFAULT_HINT.format(_headers(settings))
    namespace = settings.namespace or app.name
    name = storage_key(settings.prefix, namespace, scope, key, settings.name_key)
    return RecordRef(name, not_found, settings.engine)


def _settings(app: Flask, path: str | None, method: str) -> Settings:
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


def _scope(settings: Settings, caller: _Caller) -> str | None:
    if settings.scope is not None:
        if caller != _Caller(caller.scope):
            raise click.UsageError(_CUSTOM_SCOPE)
        return caller.scope
    if caller.scope is not None:
        raise click.UsageError(_DEFAULT_SCOPE.format(_headers(settings)))
    for name in caller.headers:
        if name.lower() not in settings.scope_headers:
            raise click.BadParameter(
                f"{name} is not in IDEMPOTENT_SCOPE_HEADERS, which has {_headers(settings)}.",
                param_hint="--scope-header",
            )
    headers = {name.lower(): _ask_header(name) for name in caller.headers}
    return scope_of_caller(sorted(headers.items()), caller.user, caller.user_id)


def _endpoint_scope(app: Flask, settings: Settings, path: str, method: str) -> str | None:
    """Return the scope of an endpoint for webhooks, which follows from its path."""
    if not isinstance(settings.scope, EndpointScope):
        return None
    with app.test_request_context(path, method=method) as context:
        return settings.scope(context.request)


def _headers(settings: Settings) -> str:
    return ", ".join(name.title() for name in sorted(settings.scope_headers)) or "no header"


def _ask_header(name: str) -> str:
    # Not an argument: other users see those in the process list, and the shell records them.
    if sys.stdin.isatty():
        header: str = click.prompt(name, hide_input=True, err=True)
    else:
        header = sys.stdin.readline()
    # As WSGI decodes headers (PEP 3333).
    return header.strip().encode().decode("latin-1")


_DEFAULT_HINT = (
    "\nA request with one of the scope headers ({}) or with a user in its session has another "
    "scope: add --scope-header NAME for each header, --user or --user-id; and --path if its view "
    "has a scope function."
)
_CUSTOM_HINT = "\nGive what your scope function returned for the request: --scope VALUE."
_DEFAULT_SCOPE = (
    "--scope is for views with a scope function. Here the scope consists of headers ({}) and the "
    "session's user: use --scope-header NAME, --user and --user-id, or add --path to choose "
    "another view."
)
_CUSTOM_SCOPE = (
    "--scope-header, --user and --user-id are for the default scope. Here a scope function is set: "
    "give what it returned as --scope, or add --path to choose another view."
)
