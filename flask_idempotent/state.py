"""State: what the library keeps for each application, in ``app.extensions``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from flask_idempotent.engine.engine import Engine
from flask_idempotent.processes import ProcessBound, notice_changes
from flask_idempotent.settings import Settings, resolve
from flask_idempotent.stores.urls import adopt_store, open_store

if TYPE_CHECKING:
    from flask import Flask, Request

EXTENSION = "idempotent"

#: The keywords of a view without any.
NO_OVERRIDES: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(slots=True)
class Hooks:
    """The functions that an application gave to the extension's decorators."""

    key_finders: list[Callable[[Request], str | None]] = field(default_factory=list)
    overrides: dict[str, Any] = field(default_factory=dict)


class State(ProcessBound):
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
        self._overrides = overrides or {}
        self._given = store
        self._engine: Engine | None = None
        self._settings: dict[int, Settings] = {}
        # The settings of a view live as long as its keywords, whose identity is their key.
        self._views: list[Mapping[str, Any]] = []
        super().__init__()

    def reset(self) -> None:
        self._making = threading.Lock()

    def settings(self, view: Mapping[str, Any] = NO_OVERRIDES) -> Settings:
        """The settings of a view, resolved at its first use.

        :param view: keywords of the view's decorator.
        """
        found = self._settings.get(id(view))
        if found is None:
            layers = (view, self.hooks.overrides, self._overrides)
            found = resolve(self.app.config, *layers)
            self._views.append(view)
            self._settings[id(view)] = found
        return found

    @property
    def engine(self) -> Engine:
        """The engine, made at the first request that carries a key."""
        return self._engine or self._make_engine()

    def _make_engine(self) -> Engine:
        notice_changes()
        with self._making:
            if self._engine is None:
                settings = resolve(self.app.config)
                if self._given is not None:
                    store = adopt_store(self._given)
                else:
                    store = open_store(settings.redis_url, f"{self.app.name}@{self.app.root_path}")
                self._engine = Engine(store, self.app, settings.max_waiters)
            return self._engine


def state_of(app: Flask) -> State:
    """The state of an application, made for one that has only decorated views."""
    state = app.extensions.get(EXTENSION)
    if state is None:
        # Threads may race for the first request; a state that loses has done nothing yet.
        state = app.extensions.setdefault(EXTENSION, State(app))
    assert isinstance(state, State)
    return state
