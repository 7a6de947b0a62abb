"""First requests: prepares each application that may have decorated views at its first request.

A decorator does not know the application of its view. At the first request of an application its
views are known, and from then on the bodies of its requests are tracked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from flask import request_started

from flask_idempotent.web.marks import layers_of, methods_of
from flask_idempotent.web.state import AppState, state_of, stop_receiving

if TYPE_CHECKING:
    from flask import Flask


class FirstRequests:
    """Listens for requests while an application that was not prepared yet may turn up."""

    #: Stop listening after this many requests without a new application or a new decorated
    #: function.
    PATIENCE: Final = 1000

    def __init__(self) -> None:
        #: Decorated functions that are not known to be a view of any application.
        self._unmatched: WeakSet[Callable[..., Any]] = WeakSet()
        self._prepared: WeakSet[Flask] = WeakSet()
        self._requests_left: float = 0

    def expect(self, function: Callable[..., Any]) -> None:
        """Listen for the first request of the application that a decorated function belongs to."""
        self._unmatched.add(function)
        self._listen(self.PATIENCE)

    def prepare_late(self, app: Flask) -> AppState:
        """Return the state of an application that came too late, and listen again for others."""
        self._listen(math.inf)
        return state_of(app)

    def _listen(self, requests: float) -> None:
        self._requests_left = max(self._requests_left, requests)
        request_started.connect(self._on_request)

    def _on_request(self, app: Flask, **_: object) -> None:
        if app not in self._prepared:
            self._unmatched.difference_update(_functions_of_views(app))
            state = state_of(app)
            # A decorated function that is not a view itself is called by one.
            state.has_decorated_helpers |= bool(self._unmatched)
            state.prepare(app)
            self._prepared.add(app)
            self._requests_left = max(self._requests_left, self.PATIENCE)
        self._requests_left -= 1
        if self._requests_left <= 0:
            self.stop_listening()

    def stop_listening(self) -> None:
        """Disconnect from the signal, whose receivers cost every request 2 us."""
        stop_receiving(self._on_request)


def _functions_of_views(app: Flask) -> Iterator[FunctionType]:
    for view in app.view_functions.values():
        for method in methods_of(view):
            for layer in layers_of(view, method):
                if isinstance(layer, FunctionType):
                    yield layer


first_requests: Final = FirstRequests()
