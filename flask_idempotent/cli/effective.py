"""The settings that count, and where each comes from, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flask import Flask

from flask_idempotent._quantities import duration, size
from flask_idempotent._redact import without_password
from flask_idempotent.options import OPTIONS, REDIS_URL
from flask_idempotent.settings import Settings, origin
from flask_idempotent.stores.factory import check_url
from flask_idempotent.web.protection import Layer
from flask_idempotent.web.routes import qualified_name
from flask_idempotent.web.state import state_of

_TIMES: Final = frozenset({"timeout", "expire", "lease", "linger", "max_run"})
_SIZES: Final = frozenset({"max_body", "compress"})
#: What it means that a setting is None.
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
class Effective:
    """A setting as it counts.

    :param name: its keyword, or what it is called where it has none.
    :param value: its value for programs: what JSON has, and the names of functions.
    :param text: its value for people.
    :param origin: ``view``, ``blueprint NAME``, ``extension``, a name in the config, or
        ``default``.
    """

    name: str
    value: Any
    text: str
    origin: str


def effective(app: Flask, settings: Settings, layers: Sequence[Layer]) -> Iterator[Effective]:
    """List the settings that count.

    :param layers: whose keywords they come from.
    :raises SettingsError: when the store's address cannot be used.
    """
    for option in OPTIONS:
        value, source = getattr(settings, option.name), origin(option, app.config, layers)
        if option is not REDIS_URL:
            value = _plain(value)
            yield Effective(option.name, value, _text(option.name, value), source)
        elif state_of(app).has_own_store:
            yield Effective(option.name, None, "not used: store= was given", "extension")
        else:
            # In an address that cannot be used any part may be the password.
            check_url(value, option.name_in(app.config))
            shown = without_password(value)
            yield Effective(option.name, shown, shown, source)


def _plain(value: Any) -> Any:
    if callable(value):
        return qualified_name(value)
    if isinstance(value, frozenset):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value


def _text(name: str, value: Any) -> str:
    if value is None:
        return _NONE.get(name, "none")
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if name in _TIMES:
        return duration(value)
    return size(value) if name in _SIZES else str(value)
