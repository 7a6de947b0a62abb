"""Keys that a test puts into a state, as if an earlier request had crashed, failed or been held."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from flask_idempotent import signals
from flask_idempotent.engine.claims import Claim
from flask_idempotent.testing.store import CrashableStore, OwnerCrashed
from flask_idempotent.web.flask_compat import current_request
from flask_idempotent.web.request_state import request_state
from flask_idempotent.web.state import state_of
from flask_idempotent.web.steps import step

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.test import TestResponse

    from flask_idempotent.settings import Settings
    from flask_idempotent.testing.requests import RecordedRequest

#: The states into which a key can be put.
State = Literal["running", "lapsed", "held", "released"]


@dataclass(frozen=True, slots=True)
class PreparedKey:
    """A key in the state that a test has asked for, and the request that it belongs to.

    :param key: the client's key.
    :param storage_key: the name of its record in the store.
    """

    key: str
    storage_key: str
    _request: RecordedRequest = field(repr=False)

    def send(self) -> TestResponse:
        """Send the request with this key, and return the response."""
        return self._request.send()


class Past:
    """An earlier request: its owner calls the given steps instead of its view, and is gone.

    :param state: the state in which it leaves its key.
    :param steps: what its steps have returned, by their names.
    :param open_step: the step with ``once=True`` in which it stops; empty for none.
    :raises ValueError: when there is no such state.
    """

    def __init__(self, state: State, steps: Mapping[str, Any], open_step: str) -> None:
        if state not in get_args(State):
            raise ValueError(f"a key can be {', '.join(get_args(State))}, not {state!r}")
        self._state = state
        self._steps = steps
        self._open_step = open_step
        self._claim: Claim | None = None
        self._error: Exception | None = None

    def check(self, settings: Settings) -> None:
        """Check that keys of a view get into the state.

        :raises ValueError: when they do not.
        """
        if self._state == "held" and settings.on_crash == "rerun" and not self._open_step:
            raise ValueError(_NEVER_HELD)

    @contextmanager
    def instead_of_view(self, app: Flask, store: CrashableStore) -> Iterator[None]:
        """Let the owner of the request that is sent meanwhile have this past, and crash.

        :raises TypeError: when what a step has returned cannot be recorded.
        """

        def run() -> None:
            claim = self._claim = request_state(current_request()).claim
            assert claim is not None, "the signal is sent for it"
            try:
                self._run_steps()
                if self._state == "released":
                    state_of(app).engine.release(claim, "failed")
            except Exception as error:  # A receiver's error would only be logged.
                self._error = error
            store.ignore(claim.record.owner)
            raise OwnerCrashed

        # It stays connected, for the reason that ``record_signals`` gives.
        signals.claimed.connect(_run_past, app)
        _here.run = run
        try:
            with suppress(OwnerCrashed):
                yield
        finally:
            del _here.run
        if self._error is not None:
            raise self._error

    def _run_steps(self) -> None:
        for name, result in self._steps.items():
            step(name, lambda result=result: result)
        if self._open_step:
            with suppress(OwnerCrashed):
                step(self._open_step, _crash, once=True)

    def leave(self, app: Flask, store: CrashableStore) -> str:
        """Bring the key into its state.

        :returns: its storage key.
        """
        assert self._claim is not None, "its request was sent"
        request = self._claim.request
        if self._state in ("lapsed", "held"):
            store.end_lease(request.storage_key)
        if self._state == "held" and request.settings.decides:
            engine = state_of(app).engine
            decider = engine.claim(request)
            assert isinstance(decider, Claim), "the lease has ended"
            engine.hold(decider)
        return request.storage_key


def _crash() -> None:
    raise OwnerCrashed


_NEVER_HELD = (
    "a key of this view is held only where a step with once=True is open, because its on_crash is "
    "'rerun': name that step, open_step='charge', or ask for another state"
)


#: In a thread that sends the request of an earlier owner: what runs in place of the view.
_here = threading.local()


def _run_past(*_: object, **__: object) -> None:
    if hasattr(_here, "run"):
        _here.run()
