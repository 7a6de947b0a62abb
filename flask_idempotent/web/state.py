"""State: what the library keeps for each application, in ``app.extensions``."""

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
from flask_idempotent.settings import Settings, resolve
from flask_idempotent.stores.base import Store
from flask_idempotent.stores.factory import adopt_store, open_store
from flask_idempotent.web.flask_compat import (
    Dispatch,
    current_context,
    current_request,
    wrap_full_dispatch_request,
    wrap_user_exception_handling,
)
from flask_idempotent.web.notices import Notices
from flask_idempotent.web.placement import check_places
from flask_idempotent.web.protection import Protections, clear_all

if TYPE_CHECKING:
    from flask import Flask, Request

EXTENSION_KEY = "idempotent"


@dataclass(slots=True)
class Hooks:
    """The functions that an application gave to the extension's decorators.

    :param served: an application of the extension that has had its first request.
    """

    key_finders: list[Callable[[Request], KeyLike | None]] = field(default_factory=list)
    overrides: dict[str, Any] = field(default_factory=dict)
    served: str = ""

    def override(self, name: str, function: Callable[..., Any]) -> None:
        """Take a function for a setting.

        :raises SettingsError: once requests were served with another.
        """
        if self.served and self.overrides.get(name) is not function:
            raise SettingsError(
                f"a {name} function is registered too late: the application {self.served!r} has "
                "served its first request, and a retry of that would no longer find its record. "
                "Register it while the application is set up."
            )
        self.overrides[name] = function
        clear_all()


class AppState(ForkAware):
    """The library's state in one application.

    :param app: the application.
    :param overrides: keywords of the extension.
    :param hooks: the functions given to its decorators.
    :param store: the store, or a redis-py client, given to the extension.
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
        self._given = store
        self._engine: Engine | None = None
        self._prepared = False
        self._passes_on = False
        self.notices = Notices()
        #: Whether views that are not protected may call functions that are.
        self.calls_inside = False
        super().__init__()

    def reset(self) -> None:
        self._making = threading.Lock()

    def prepare(self, app: Flask, **_: object) -> None:
        """Track what is read of bodies, from the first request on.

        :raises SettingsError: when a view was decorated above its route; at every request then.
        """
        check_places(app)
        self.hooks.served = app.name
        # Not for this sender alone: blinker would go on looking for receivers at every request.
        request_started.disconnect(self.prepare)
        if self._prepared:
            return
        self._prepared = True
        # Settings that cannot be used are told to the requests that need them.
        with suppress(SettingsError):
            self.notices.on_views(app, self.protections)
        if has_request_context():
            self._track(current_request())
        wrap_full_dispatch_request(app, self._tracking)

    def _tracking(self, dispatch: Dispatch) -> Dispatch:
        def dispatch_tracked(*args: Any) -> Any:
            # ``request_started`` is sent from here; a receiver would cost every request 2 us.
            self._track(current_context().request)
            return dispatch(*args)

        return dispatch_tracked

    def _track(self, current: Request) -> None:
        """Track the body of a request that may carry a key."""
        try:
            protection = self.protections.of_request(current)
        except SettingsError:
            # The requests that need the settings raise it.
            return
        if protection is None or not (protection.claims or self.calls_inside):
            return
        if self.may_carry_key(current, protection.settings):
            track(current)

    def may_carry_key(self, current: Request, settings: Settings) -> bool:
        """Whether a request may carry a key, or must; quick, sometimes wrongly True."""
        return bool(self.key_finders) or may_carry_key(current.environ, settings)

    def pass_on(self, error: Exception) -> None:
        """Keep Flask from handling an error again that its error handlers have had or raised."""
        request.environ[HANDLED_ERROR] = error
        with self._making:
            if self._passes_on:
                return
            self._passes_on = True
            wrap_user_exception_handling(self.app, _handle_once)

    def settings(self) -> Settings:
        """The settings of a view without marks."""
        return self.protections.settings()

    def discard(self) -> bool:
        """Make way for the extension's state, unless requests were served with this one."""
        if self._prepared or self._engine is not None:
            return False
        request_started.disconnect(self.prepare)
        return True

    @property
    def has_own_store(self) -> bool:
        """Whether the extension was given a store, so that no address in the config counts."""
        return self._given is not None

    @property
    def engine(self) -> Engine:
        """The engine, made at the first request that carries a key."""
        return self._engine or self._make_engine()

    def _make_engine(self) -> Engine:
        check_process()
        with self._making:
            if self._engine is None:
                settings = resolve(self.app.config)
                if self._given is not None:
                    store = adopt_store(self._given)
                else:
                    store = open_store(
                        settings.redis_url,
                        f"{self.app.name}@{self.app.root_path}",
                        REDIS_URL.name_in(self.app.config),
                    )
                self._engine = Engine(store, self.app, settings.max_waiters, linger=settings.linger)
            return self._engine

    @contextmanager
    def using_store(self, store: Store) -> Iterator[None]:
        """Work on another store for a while, as tests do; the former one comes back afterwards."""
        check_process()
        engine = Engine(store, self.app, self.settings().max_waiters)
        former, self._engine = self._engine, engine
        try:
            yield
        finally:
            self._engine = former
            engine.close()


def _handle_once(error: Exception, handle: Callable[[], Any]) -> Any:
    # Flask's own gives up in the same way.
    if request.environ.pop(HANDLED_ERROR, None) is error:
        raise error
    return handle()


def state_of(app: Flask) -> AppState:
    """The state of an application, made for one that has only decorated views."""
    state = app.extensions.get(EXTENSION_KEY)
    if state is None:
        # Threads may race for the first request; a state that loses has done nothing yet.
        made = AppState(app)
        state = app.extensions.setdefault(EXTENSION_KEY, made)
        if state is made:
            request_started.connect(made.prepare, app)
    assert isinstance(state, AppState)
    return state
