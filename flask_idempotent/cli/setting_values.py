"""The value of each setting, for people and for programs, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from flask import Flask

from flask_idempotent._quantities import duration, size
from flask_idempotent._redact import without_password
from flask_idempotent.engine.transactions import Transaction
from flask_idempotent.options import OPTIONS, REDIS_URL
from flask_idempotent.sealing import secret_fingerprint
from flask_idempotent.settings import origin
from flask_idempotent.stores.factory import check_url
from flask_idempotent.web.protection import Protection
from flask_idempotent.web.routes import qualified_name
from flask_idempotent.web.state import state_of

_TIMES: Final = frozenset({"timeout", "expire", "lease", "linger", "max_run", "hold_for"})
_SIZES: Final = frozenset({"max_body", "compress"})
#: What None means, for settings where it means something.
_NONE: Final = {
    "methods": "every method with an effect",
    "scope": "the default scope",
    "fingerprint": "the whole request",
    "compress": "never",
    "max_run": "as long as the view runs",
    "max_waiters": "no limit",
    "namespace": "the application's name",
}


@dataclass(frozen=True, slots=True)
class SettingValue:
    """The value of one setting.

    :param name: its keyword, or its name in lower case where it has no keyword.
    :param value: its value for programs, as JSON allows it; the name of a function.
    :param text: its value for people.
    :param origin: ``view``, ``blueprint NAME``, ``extension``, a name in the config, or
        ``default``.
    """

    name: str
    value: Any
    text: str
    origin: str


def setting_values(app: Flask, protection: Protection | None) -> Iterator[SettingValue]:
    """Get the values of all settings.

    :param protection: whose settings; None for a view that sets none itself.
    :raises SettingsError: when the store's address cannot be used.
    """
    state = state_of(app)
    if protection is None:
        settings, layers = state.protections.settings(), state.protections.extension
    else:
        settings, layers = protection.settings, protection.layers
    for option in OPTIONS:
        value, source = getattr(settings, option.name), origin(option, app.config, layers)
        if option is not REDIS_URL:
            value = _plain(_shown(option.name, value))
            yield SettingValue(option.name, value, _text(option.name, value), source)
        elif state.has_given_store:
            yield SettingValue(option.name, None, "not used: store= was given", "extension")
        else:
            # Any part of an address that cannot be parsed may be the password.
            check_url(value, option.name_in(app.config))
            address = without_password(value)
            yield SettingValue(option.name, address, address, source)


def as_dict(values: Iterable[SettingValue]) -> dict[str, Any]:
    """Write settings for programs."""
    return {setting.name: {"value": setting.value, "from": setting.origin} for setting in values}


def _shown(name: str, value: Any) -> Any:
    """What may be shown of a value: of secrets their fingerprints."""
    if name == "secrets":
        return tuple(secret and secret_fingerprint(secret) for secret in value)
    return secret_fingerprint(value) if name == "name_secret" and value else value


def _plain(value: Any) -> Any:
    if callable(value):
        return qualified_name(value)
    if isinstance(value, Transaction):
        return _described(value)
    if isinstance(value, frozenset):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value


def _described(transaction: Transaction) -> str:
    if type(transaction).__repr__ is object.__repr__:
        return qualified_name(type(transaction))
    return repr(transaction)


def _text(name: str, value: Any) -> str:
    if value is None:
        return _NONE.get(name, "none")
    if isinstance(value, list):
        words = ("unsealed" if item is None else str(item) for item in value)
        return ", ".join(words) or "none"
    if name in _TIMES:
        return duration(value)
    return size(value) if name in _SIZES else str(value)
