"""The extension: ``Idempotent(app)`` protects every view of an application."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar, Unpack

from flask import Blueprint, Flask, Request, request_started
from markupsafe import Markup

from flask_idempotent.errors import SettingsError
from flask_idempotent.options import (
    OPTIONS,
    REDIS_URL,
    KeyLike,
    Overrides,
    ScopeLike,
    check_overrides,
)
from flask_idempotent.settings import resolve
from flask_idempotent.stores.factory import adopt_store, check_url
from flask_idempotent.web.dispatching import protect_dispatching
from flask_idempotent.web.flask_compat import without_proxy
from flask_idempotent.web.state import EXTENSION_KEY, AppState, Hooks
from flask_idempotent.web.templating import hidden_input, new_key

KeyFinder = TypeVar("KeyFinder", bound=Callable[[Request], KeyLike | None])
Scope = TypeVar("Scope", bound=Callable[[Request], ScopeLike | None])
Fingerprint = TypeVar("Fingerprint", bound=Callable[[Request], str | bytes])

_CONFIG_OF_THE_ORIGINAL = ("REDIS_URL", "IDEMPOTENT_TIMEOUT", "IDEMPOTENT_EXPIRE")


class Idempotent:
    """Protects every request of an application that carries an idempotency key.

    ``Idempotent(app)``, or ``Idempotent()`` and later ``init_app(app)``; one object may serve
    several applications. A decorated view keeps its own settings, an exempt one is left alone.

    :param app: the application.
    :param store: a store of this package or a redis-py client, in the place of an address in the
        config.
    :param overrides: settings that win over the application's config; see the settings page.
    :raises SettingsError: on a wrong name, type or range.
    """

    def __init__(
        self, app: Flask | None = None, *, store: object = None, **overrides: Unpack[Overrides]
    ) -> None:
        check_overrides(overrides)
        self._store = store if store is None else adopt_store(store)
        self._overrides = overrides
        self._hooks = Hooks()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, *, store: object = None) -> None:
        """Protect an application; nothing connects and no thread starts before its first key.

        :param store: this application's store, in the place of the extension's.
        :raises SettingsError: on a wrong setting, or a second call for one application.
        """
        # Whoever gives current_app means the application: signals are told from that.
        app = without_proxy(app)
        if not isinstance(app, Flask):
            raise SettingsError(_NO_APPLICATION.format(app))
        self._make_way(app)
        for option in OPTIONS:
            name = option.fallback or option.config
            if name in _CONFIG_OF_THE_ORIGINAL and option.name_in(app.config) not in app.config:
                app.config[name] = option.default
        settings = resolve(app.config, self._hooks.overrides, self._overrides)
        adopted = self._store if store is None else adopt_store(store)
        if adopted is None:
            check_url(settings.redis_url, REDIS_URL.name_in(app.config))
        state = AppState(app, self._overrides, self._hooks, adopted, app_wide=True)
        state.notices.on_settings(settings)
        app.extensions[EXTENSION_KEY] = state
        request_started.connect(state.prepare, app)
        app.jinja_env.globals.update(
            idempotent_key=self.generate_idempotent_key,
            idempotent_input=self.make_idempotent_input,
            idempotent_hidden_input=self.make_idempotent_input,
        )
        app.register_blueprint(Blueprint("flask_idempotent", __name__, template_folder="templates"))
        protect_dispatching(app)

    def _make_way(self, app: Flask) -> None:
        former = app.extensions.get(EXTENSION_KEY)
        if former is None:
            return
        if former.app_wide:
            raise SettingsError(f"Idempotent is already set up on the application {app.name!r}")
        # Made for a protected blueprint, or because somebody asked for a setting.
        if not former.discard():
            raise SettingsError(
                f"Idempotent(app) comes too late for the application {app.name!r}: decorated views "
                "have served requests. Call it, or init_app, while the application is set up."
            )

    def key_finder(self, function: KeyFinder) -> KeyFinder:
        """Register a function that finds the key where the request's usual places have none.

        It is given the request and returns the key or None; a later one is asked when the earlier
        ones find nothing.
        """
        self._hooks.key_finders.append(function)
        return function

    def scope(self, function: Scope) -> Scope:
        """Register the function that says who a request's key belongs to."""
        self._hooks.override("scope", function)
        return function

    def fingerprint(self, function: Fingerprint) -> Fingerprint:
        """Register the function that says what makes two requests the same."""
        self._hooks.override("fingerprint", function)
        return function

    def generate_idempotent_key(self) -> str:
        """Make a fresh key of 128 random bits; ``{{ idempotent_key() }}`` in templates."""
        return new_key()

    def make_idempotent_input(self) -> Markup:
        """Write a hidden field with a fresh key; ``{{ idempotent_input() }}`` in templates."""
        return hidden_input(self.generate_idempotent_key())

    def response_serializer(self, function: object) -> NoReturn:
        """Gone: it carried pickle.

        :raises SettingsError: always.
        """
        raise SettingsError(_NO_SERIALIZERS)

    def response_unserializer(self, function: object) -> NoReturn:
        """Gone: it carried pickle.

        :raises SettingsError: always.
        """
        raise SettingsError(_NO_SERIALIZERS)


_NO_APPLICATION = (
    "Idempotent protects a Flask application, not {!r}. For a blueprint there is "
    "idempotent.protect(blueprint), for a view @idempotent."
)
_NO_SERIALIZERS = (
    "response_serializer and response_unserializer are gone: responses are stored as msgpack, "
    "never pickled. Remove the call; no replacement is needed"
)
