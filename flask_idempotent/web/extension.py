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
from flask_idempotent.web.templating import (
    BLUEPRINT,
    STATIC_URL_PATH,
    hidden_input,
    new_key,
    script_tag,
)

KeyFinder = TypeVar("KeyFinder", bound=Callable[[Request], KeyLike | None])
Scope = TypeVar("Scope", bound=Callable[[Request], ScopeLike | None])
Fingerprint = TypeVar("Fingerprint", bound=Callable[[Request], str | bytes])

_CONFIG_OF_THE_ORIGINAL = ("REDIS_URL", "IDEMPOTENT_TIMEOUT", "IDEMPOTENT_EXPIRE")


class Idempotent:
    """Protects every view of an application, for requests that carry an idempotency key.

    Other requests run as if the extension were not there::

        app = Flask(__name__)
        Idempotent(app, expire=timedelta(days=1), required=True)

    Or ``idempotent = Idempotent()``, and ``idempotent.init_app(app)`` in the application's factory;
    one object may serve several applications. A view that is decorated with ``@idempotent`` wins
    with its own keywords, and one that is exempt is left alone.

    The keywords are those of ``@idempotent``, whose documentation says more of each, and apply to
    every view. They win over the application's config. Times are seconds, int or float, or a
    ``timedelta``; sizes are bytes.

    :param app: the application; None to call ``init_app`` later.
    :param store: where records live: a store, which may be your own, or a redis-py client, instead
        of the address in the config.
    :param timeout: how long a duplicate waits for the first request's response; 60 s by default.
    :param busy_status: the status of "in-progress", which it gets after that: 409, the default,
        425, 429 or 503.
    :param expire: how long a response is kept; 240 s by default.
    :param lease: how long a claim outlives a process that died; 30 s by default.
    :param on_crash: ``"rerun"``, the default, ``"hold"``, or a function that decides: what happens
        when the process died.
    :param hold_for: how long a key is held after that; seven days by default.
    :param required: whether requests without a key are refused; False by default.
    :param methods: the names of the methods that are tracked.
    :param field: the name of the form field and query argument with the key, or None.
    :param key: a function that returns the key of a request.
    :param scope: a function that returns the caller that a request's key belongs to.
    :param fingerprint: a function that returns what makes a request the same as its retry, or
        False.
    :param ignore_fields: names of form fields that may differ in a retry.
    :param store_if: a function that says whether a response is kept.
    :param dont_keep: statuses that are not kept.
    :param correctable: True, False, or the statuses after which a corrected request may use the
        key again.
    :param max_run: how long the lease of a running view is renewed; None, the default, for as long
        as it runs.
    :param max_body: the size of the largest response body that is kept; 1 MiB by default.
    :param compress: the size from which bodies are stored compressed; None, the default, for never.
    :param drop_headers: names of response headers that are not kept.
    :param keep_headers: names of response headers that are kept although they are not by default.
    :param replay_session: names of the session's entries whose changes a replay makes again; those
        of ``flash()`` by default.
    :param on_store_error: ``"reject"``, the default, or ``"run"``: what happens while the store
        does not answer.
    :param min_replicas: how many of the store's replicas must have a claim before its view runs; 0
        by default.
    :param transaction: the transaction of the application's database, which commits each response
        together with the rows of its view; None by default.
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
        """Protect an application.

        Nothing connects, and no thread starts, before the first request with a key.

        :param app: the application.
        :param store: its store or redis-py client, instead of the extension's.
        :raises SettingsError: on a wrong setting, on a second call for one application, and once
            decorated views have served requests.
        """
        # Signals are sent from the application itself, not from the proxy current_app.
        app = without_proxy(app)
        if not isinstance(app, Flask):
            raise SettingsError(_NO_APPLICATION.format(app))
        self._replace_implicit_state(app)
        _write_defaults(app)
        settings = resolve(app.config, self._hooks.overrides, self._overrides)
        adopted = self._store if store is None else adopt_store(store)
        if adopted is None:
            check_url(settings.redis_url, REDIS_URL.name_in(app.config))
        state = AppState(app, self._overrides, self._hooks, adopted, app_wide=True)
        state.notices.on_settings(settings)
        app.extensions[EXTENSION_KEY] = state
        request_started.connect(state.prepare, app)
        self._add_templates(app)
        protect_dispatching(app)

    def _replace_implicit_state(self, app: Flask) -> None:
        state = app.extensions.get(EXTENSION_KEY)
        if state is None:
            return
        if state.app_wide:
            raise SettingsError(f"Idempotent is already set up on the application {app.name!r}")
        # It was made for a protected blueprint, or because a setting was read before.
        if not state.discard():
            raise SettingsError(
                f"Idempotent(app) comes too late for the application {app.name!r}: decorated views "
                "have served requests. Call it, or init_app, while the application is set up."
            )

    def _add_templates(self, app: Flask) -> None:
        app.jinja_env.globals.update(
            idempotent_key=self.generate_idempotent_key,
            idempotent_input=self.make_idempotent_input,
            idempotent_hidden_input=self.make_idempotent_input,
            idempotent_script=self.make_idempotent_script,
            idempotent_script_tag=self.make_idempotent_script,
        )
        folders = Blueprint(
            BLUEPRINT,
            __name__,
            template_folder="templates",
            static_folder="static",
            static_url_path=STATIC_URL_PATH,
        )
        app.register_blueprint(folders)

    def key_finder(self, function: KeyFinder) -> KeyFinder:
        """Register a function that finds the key where headers, form and query have none.

        It is given the request and returns the key, a str, int or UUID, or None. Several may be
        registered: a later one is asked when the earlier ones find nothing. A decorator::

            @idempotent.key_finder
            def key_of_message(request):
                return request.headers.get("X-Message-Id")
        """
        self._hooks.key_finders.append(function)
        return function

    def scope(self, function: Scope) -> Scope:
        """Register the function that says who a request's key belongs to: a decorator.

        It is given the request and returns a str, bytes, int or UUID, or None for the one
        anonymous scope.

        :raises SettingsError: once an application has served requests with another.
        """
        self._hooks.override("scope", function)
        return function

    def fingerprint(self, function: Fingerprint) -> Fingerprint:
        """Register the function that says what makes a request the same as its retry: a decorator.

        It is given the request and returns a str or bytes; method and path are always compared.

        :raises SettingsError: once an application has served requests with another.
        """
        self._hooks.override("fingerprint", function)
        return function

    def generate_idempotent_key(self) -> str:
        """Make a fresh key of 128 random bits; ``{{ idempotent_key() }}`` in templates."""
        return new_key()

    def make_idempotent_input(self) -> Markup:
        """Write a hidden field with a fresh key; ``{{ idempotent_input() }}`` in templates."""
        return hidden_input(self.generate_idempotent_key())

    def make_idempotent_script(self, nonce: str | None = None) -> Markup:
        """Write the script that replaces forms' keys; ``{{ idempotent_script() }}`` in templates.

        It is for pages with forms that stay on the page when they are sent, as with ``fetch`` or
        htmx: such a form gets a new key when it has been answered, and when it is edited after it
        was sent.

        :param nonce: the nonce of the page's Content-Security-Policy, where scripts need one.
        """
        return script_tag(nonce)

    def response_serializer(self, function: object) -> NoReturn:
        """Refuse a hook of version 0.1, which stored pickled responses.

        :raises SettingsError: always.
        """
        raise SettingsError(_NO_SERIALIZERS)

    def response_unserializer(self, function: object) -> NoReturn:
        """Refuse a hook of version 0.1, which stored pickled responses.

        :raises SettingsError: always.
        """
        raise SettingsError(_NO_SERIALIZERS)


def _write_defaults(app: Flask) -> None:
    # Version 0.1 wrote these into the config, where applications may read them.
    for option in OPTIONS:
        name = option.fallback or option.config
        if name in _CONFIG_OF_THE_ORIGINAL and option.name_in(app.config) not in app.config:
            app.config[name] = option.default


_NO_APPLICATION = (
    "Idempotent protects a Flask application, not {!r}. To protect a blueprint, call "
    "idempotent.protect(blueprint); to protect a view, decorate it with @idempotent."
)
_NO_SERIALIZERS = (
    "response_serializer and response_unserializer are gone: responses are stored as msgpack, "
    "never pickled. Remove the call; no replacement is needed"
)
