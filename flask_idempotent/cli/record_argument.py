"""The argument KEY: which record a command is about.

The store has no client's keys, only digests of namespace, scope and key. So to find the record of
a client's key, the command must know its scope.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import click
from flask import Flask
from flask.cli import with_appcontext

from flask_idempotent.cli.callers import (
    Caller,
    caller_options,
    endpoint_scope,
    header_names,
    scope_of,
    settings_at,
)
from flask_idempotent.cli.options import Refused, this_app
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.http.keys import UnusableKey, parse_header, storage_key
from flask_idempotent.records import (
    CompletedRecord,
    CompletedSummary,
    ReleasedRecord,
    RunningRecord,
)
from flask_idempotent.settings import EngineSettings, Settings
from flask_idempotent.stores.base import RecordInfo
from flask_idempotent.stores.inspectable import InspectableStore
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


def record_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument KEY and its options; it gets them as one ``RecordRef``."""

    @click.argument("key")
    @caller_options
    @click.option(
        "--storage-key",
        "is_storage_key",
        is_flag=True,
        help="KEY is a storage key, as in list and in log lines.",
    )
    @with_appcontext
    @wraps(command)
    def with_ref(
        key: str, caller: Caller, path: str | None, method: str, is_storage_key: bool, **others: Any
    ) -> None:
        app = this_app()
        if is_storage_key:
            if caller != Caller() or path is not None:
                raise click.UsageError(
                    "A storage key already includes the scope, so leave out --scope, "
                    "--scope-header, --user, --user-id and --path."
                )
            ref = _by_storage_key(state_of(app).settings(), key)
        else:
            settings = settings_at(app, path, method)
            scope = scope_of(settings, caller)
            if scope is None and path is not None:
                scope = endpoint_scope(app, settings, path, method)
            ref = _by_key(app, settings, scope, key)
        command(ref, **others)

    return with_ref


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
    """Find the settings of the view that a record is for; the application's where it is gone."""
    protections = state_of(app).protections
    try:
        return protections.of(record.endpoint, record.method).settings
    except KeyError:
        return protections.settings()


def _by_storage_key(settings: Settings, key: str) -> RecordRef:
    prefix = settings.prefix
    if not re.fullmatch(re.escape(prefix) + r"\{([\w-]{11})?[\w-]{22}\}", key, re.ASCII):
        raise click.BadParameter(
            f"{key!r} is not a storage key: it must look like {prefix}{{22 characters}}, or 33 "
            "with IDEMPOTENT_NAME_SECRET. Put it in single quotes.",
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
        hint = _DEFAULT_HINT.format(header_names(settings))
        not_found += _CUSTOM_HINT if settings.scope else hint
    namespace = settings.namespace or app.name
    name = storage_key(settings.prefix, namespace, scope, key, settings.name_key)
    return RecordRef(name, not_found, settings.engine)


_DEFAULT_HINT = (
    "\nA request with one of the scope headers ({}) or with a user in its session has another "
    "scope: add --scope-header NAME for each header, --user or --user-id; and --path if its view "
    "has a scope function."
)
_CUSTOM_HINT = "\nGive what your scope function returned for the request: --scope VALUE."
