"""The state that the library keeps for each application, in ``app.extensions``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask import has_request_context, request, request_started

from flask_idempotent._environ import HANDLED_ERROR
from flask_idempotent._forks import ForkAware, check_process
from flask_idempotent.engine.engine import Engine
from flask_idempotent.errors import SettingsError
from flask_idempotent.http.body_tracking import track
from flask_idempotent.http.keys import may_carry_key
from flask_idempotent.options import REDIS_URL, KeyLike
from flask_idempotent.sealing import sealer_of
from flask_idempotent.settings import Settings, resolve
from flask_idempotent.stores.base import Store
from flask_idempotent.stores.factory import adopt_store, open_store
from flask_idempotent.web.flask_compat import (
    Dispatch,
    current_request,
    wrap_full_dispatch_request,
    wrap_user_exception_handling,
)
from flask_idempotent.web.notices import Notices
from flask_idempotent.web.placement import check_places
from flask_idempotent.web.protection import Protections, clear_all

if TYPE_CHECKING:
    from flask import Flask, Request

#: The name of the state in ``app.extensions``.
EXTENSION_KEY = "idempotent"


@dataclass(slots=True)
class Hooks:
    """The functions that were registered with the extension's decorators.

    :param key_finders: the functions that find keys, in the order in which they are asked.
    :param overrides: the functions that are values of settings.
    :param served: the name of an application that has had its first request; empty before.
    """

    key_finders: list[Callable[[Request], KeyLike | None]] = field(default_factory=list)
    overrides: dict[str, Any] = field(default_factory=dict)
    served: str = ""

    def override(self, name: str, function: Callable[..., Any]) -> None:
        """Make a function the value of a setting.

        :raises SettingsError: once requests were served with another function.
        """
        if self.served and self.overrides.get(name) is not function:
            raise SettingsError(
                f"a {name} function is registered too late: the application {self.served!r} has "
                "served its first request, and a retry of it would not find its record. "
                "Register the function while the application is set up."
            )
        self.overrides[name] = function
        clear_all()


class AppState(ForkAware):
    """The library's state in one application.

    :param app: the application.
    :param overrides: the keywords of the extension.
    :param hooks: the functions that were registered with its decorators.
    :param store: the store or redis-py client that was given to it.
    :param app_wide: whether the extension protects every view.
    """

    def __init__(
        self,
        app: Flask,
        overrides: Mapping[str, Any] | None = None,
        hooks: Hooks | None = None,
        store: object = None,
        *,
        app_wide: bool = False,
    ) -> None:
        self.app = app
        self.app_wide = app_wide
        self.hooks = hooks or Hooks()
        self.key_finders = self.hooks.key_finders
        extension = (self.hooks.overrides, overrides or {})
        self.protections = Protections(app, extension, app_wide=app_wide)
        self._given_store = store
        self._engine: Engine | None = None
        self._prepared = False
        self._marks_errors = False
        self.notices = Notices()
        #: Whether decorated functions are called by views that nothing protects.
        self.has_decorated_helpers = False
        super().__init__()

    def reset(self) -> None:
        self._lock = threading.Lock()

    def prepare(self, app: Flask, **_: object) -> None:
        """Prepare the application at its first request: from now on bodies are tracked.

        :raises SettingsError: when a view was decorated above its route, at every request then.
        """
        check_places(app)
        self.hooks.served = app.name
        # Disconnect from all senders: blinker keeps an empty entry for each sender and would look
        # for receivers in it on every request.
        stop_receiving(self.prepare)
        if self._prepared:
            return
        self._prepared = True
        # Wrong settings are raised by the requests that need them.
        with suppress(SettingsError):
            self.notices.on_views(app, self.protections)
        if has_request_context():
            self._track(current_request())
        wrap_full_dispatch_request(app, self._tracking)

    def _tracking(self, dispatch: Dispatch) -> Dispatch:
        def tracked_dispatch(*context: Any) -> Any:
            # ``request_started`` is sent from here, but a receiver of it costs 2 us a request.
            self._track(current_request())
            return dispatch(*context)

        return tracked_dispatch

    def _track(self, request: Request) -> None:
        """Track the body of a request that may carry a key."""
        try:
            protection = self.protections.of_request(request)
        except SettingsError:
            # Wrong settings are raised by the requests that need them.
            return
        if protection is None or not (protection.claims or self.has_decorated_helpers):
            return
        if self.may_carry_key(request, protection.settings):
            track(request)

    def may_carry_key(self, request: Request, settings: Settings) -> bool:
        """Whether a request may carry a key, or must: a quick check that may be wrongly True."""
        return bool(self.key_finders) or may_carry_key(request.environ, settings)

    def mark_handled(self, error: Exception) -> None:
        """Keep Flask from giving an error to the error handlers that have left or raised it."""
        request.environ[HANDLED_ERROR] = error
        with self._lock:
            if self._marks_errors:
                return
            self._marks_errors = True
            wrap_user_exception_handling(self.app, _handle_once)

    def settings(self) -> Settings:
        """The settings of a view that has no keywords."""
        return self.protections.settings()

    def discard(self) -> bool:
        """Stop listening, because another state replaces this; False once requests were served."""
        if self._prepared or self.has_engine:
            return False
        stop_receiving(self.prepare)
        return True

    @property
    def has_given_store(self) -> bool:
        """Whether the extension was given a store, so that the address in the config is unused."""
        return self._given_store is not None

    @property
    def has_engine(self) -> bool:
        """Whether the engine has been made, which the first request with a key does."""
        return self._engine is not None

    @property
    def engine(self) -> Engine:
        """The engine, made at the first request that carries a key."""
        return self._engine or self._make_engine()

    def _make_engine(self) -> Engine:
        check_process()
        with self._lock:
            if self._engine is None:
                settings = resolve(self.app.config)
                store = _sealed(self._open_store(settings), settings)
                self._engine = Engine(store, self.app, settings.max_waiters, linger=settings.linger)
            return self._engine

    def _open_store(self, settings: Settings) -> Store:
        if self._given_store is not None:
            return adopt_store(self._given_store)
        app_id = f"{self.app.name}@{self.app.root_path}"
        return open_store(settings.redis_url, app_id, REDIS_URL.name_in(self.app.config))

    @contextmanager
    def using_store(self, store: Store) -> Iterator[None]:
        """Use another store while the ``with`` block runs, as tests do."""
        check_process()
        settings = self.settings()
        engine = Engine(_sealed(store, settings), self.app, settings.max_waiters)
        previous, self._engine = self._engine, engine
        try:
            yield
        finally:
            self._engine = previous
            engine.close()


def _sealed(store: Store, settings: Settings) -> Store:
    """Return a store as the application's secrets need it."""
    sealer = sealer_of(settings.secrets)
    return store if sealer is None else store.sealed_with(sealer)


def _handle_once(error: Exception, handle: Callable[[], Any]) -> Any:
    # Flask's method raises an error that no handler takes in the same way.
    if request.environ.pop(HANDLED_ERROR, None) is error:
        raise error
    return handle()


def state_of(app: Flask) -> AppState:
    """Return the state of an application, which the first call creates without an extension."""
    state = app.extensions.get(EXTENSION_KEY)
    if state is None:
        # Several threads may serve first requests: one of their states is kept.
        new_state = AppState(app)
        state = app.extensions.setdefault(EXTENSION_KEY, new_state)
        if state is new_state:
            request_started.connect(new_state.prepare, app)
    assert isinstance(state, AppState)
    return state


def stop_receiving(receiver: Callable[..., None]) -> None:
    """Disconnect a receiver from ``request_started``."""
    try:
        request_started.disconnect(receiver)
    except RuntimeError:
        # blinker was looking at every application when another thread added or dropped one. It does
        # not look at them again.
        request_started.disconnect(receiver)
