"""Clients of an application in this process, and ways to protect and to hold up its views."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from flask import Flask
from werkzeug.test import TestResponse

from flask_idempotent import idempotent, signals
from flask_idempotent.web.state import EXTENSION_KEY, AppState

View = TypeVar("View", bound=Callable[..., Any])
Event = tuple[str, dict[str, Any]]

SIGNALS = (
    "claimed", "before_wait", "completed", "released", "replayed", "waited", "rejected",
    "lease_lost", "resolved", "store_failed",
)  # fmt: skip


class WayIn:
    """A way to protect a view: decorated, app-wide, or both; used as a decorator itself.

    :param name: ``"decorated"``, ``"app-wide"`` or ``"both"``.
    :param make_app: the fixture.
    """

    def __init__(self, name: str, make_app: Callable[..., Flask]) -> None:
        self._wide = name != "decorated"
        self._decorates = name != "app-wide"
        self._make_app = make_app
        self._overrides: dict[str, Any] = {}

    def app(
        self, *, store: object = None, config: dict[str, Any] | None = None, **overrides: Any
    ) -> Flask:
        """Make an application whose views have these overrides."""
        self._overrides = overrides
        on_app = {} if self._decorates else overrides
        app = self._make_app(wide=self._wide, store=store, config=config, **on_app)
        if store is not None and not self._wide:
            app.extensions[EXTENSION_KEY] = AppState(app, store=store)
        return app

    def __call__(self, view: View) -> View:
        if not self._decorates:
            return view
        return idempotent(**self._overrides)(view) if self._overrides else idempotent(view)


class Gate:
    """Holds up a view: a test waits until a request has reached it, and lets it go on."""

    def __init__(self) -> None:
        self._reached = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self) -> None:
        self._reached.release()
        assert self._open.wait(10), "nobody opened the gate"

    def reached(self) -> None:
        """Wait until a request has reached the gate."""
        assert self._reached.acquire(timeout=10), "no request reached the gate"

    def open(self) -> None:
        self._open.set()


def post(app: Flask, key: str | None = "key-one", path: str = "/", **options: Any) -> TestResponse:
    """Send a POST with a key from a new client, and read the whole answer."""
    headers = dict(options.pop("headers", {}))
    options.setdefault("buffered", True)
    if key is not None:
        headers["Idempotency-Key"] = key
    method = options.pop("method", "POST")
    return app.test_client().open(path, method=method, headers=headers, **options)


def problem(response: TestResponse) -> tuple[int, str]:
    """The status of a problem and the last part of its type."""
    assert response.mimetype == "application/problem+json", response.data
    document = response.get_json()
    assert document["status"] == response.status_code
    return response.status_code, document["type"].rpartition(":")[2]


#: The events of each ``recorded`` that has not ended, and its application.
_recordings: dict[int, tuple[Flask, list[Event]]] = {}


def _receiver(name: str) -> Callable[..., None]:
    def receive(sender: object, **data: Any) -> None:
        for app, events in list(_recordings.values()):
            if app is sender:
                events.append((name, data))

    return receive


_RECEIVERS = {name: _receiver(name) for name in SIGNALS}


@contextmanager
def recorded(app: Flask) -> Iterator[list[Event]]:
    """Record the signals that this application sends: their names and their data.

    They stay connected: to disconnect one, blinker looks at all senders, and fails where another
    thread adds or drops one meanwhile.
    """
    events: list[Event] = []
    for name, receiver in _RECEIVERS.items():
        getattr(signals, name).connect(receiver, app)
    _recordings[id(events)] = (app, events)
    try:
        yield events
    finally:
        del _recordings[id(events)]
