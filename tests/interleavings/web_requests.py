"""Requests to views with a transaction, through the web layer, as users' applications run them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import flask
from werkzeug.test import create_environ

from flask_idempotent import Idempotent
from flask_idempotent.engine.outcomes import (
    FingerprintMismatch,
    OutcomeUnknown,
    StillRunning,
)
from flask_idempotent.engine.transactions import Answer, Transaction
from flask_idempotent.web.request_state import request_state
from flask_idempotent.web.state import EXTENSION_KEY, AppState
from tests.interleavings.case import INVALID, LEASE, LIFETIME
from tests.interleavings.database import ConnectionLost, UniqueViolation

if TYPE_CHECKING:
    from tests.interleavings.case import Request
    from tests.interleavings.simulation import Simulation

_SENDING = "tests.sending"


class ViewFailed(Exception):
    """What a view raises."""


class Unavailable(Exception):
    """The answer was 503, or a view's own error: the client sends the request again."""


class _Database(Transaction):
    """The database of the simulation that the current request belongs to."""

    def look_up(self, storage_key: str) -> Answer | None:
        return _sending().simulation.database.look_up(storage_key)

    def begin(self) -> None:
        _sending().simulation.database.begin()

    def commit(self, answer: Answer | None, *, replaces: bytes | None = None) -> None:
        _sending().simulation.database.commit(answer, replaces=replaces)

    def roll_back(self) -> None:
        _sending().simulation.database.roll_back()


def state_for(request: Request) -> AppState:
    """The library's state in the application that serves a request, one for each process."""
    app = _app(request.process, request.takeover, request.runs_anyway, request.timeout)
    state: AppState = app.extensions[EXTENSION_KEY]
    return state


@cache
def _app(process: str, takeover: bool, runs_anyway: bool, timeout: float) -> flask.Flask:
    # Making one takes longer than most schedules.
    app = flask.Flask("interleavings")
    app.config["PROPAGATE_EXCEPTIONS"] = True
    Idempotent(
        app,
        transaction=_Database(),
        timeout=timeout,
        expire=LIFETIME / 1000,
        lease=LEASE,
        hold_for=LIFETIME / 1000,
        on_crash="rerun" if takeover else "hold",
        on_store_error="run" if runs_anyway else "reject",
        correctable=(INVALID,),
    )
    app.add_url_rule(
        "/", view_func=lambda: _sending().run_view(), methods=["POST"], endpoint="orders"
    )
    app.register_error_handler(ConnectionLost, lambda error: _sending().handle(error))
    return app


def _sending() -> Sending:
    sending: Sending = flask.request.environ[_SENDING]
    return sending


class Sending:
    """One sending of a request.

    :param number: the request's number in the case.
    """

    def __init__(self, simulation: Simulation, number: int, request: Request) -> None:
        self.simulation = simulation
        self._number = number
        self._request = request
        self._run = ""

    def run_view(self) -> flask.Response:
        """The view: it writes a row, and answers or fails."""
        simulation, request = self.simulation, self._request
        claim = request_state(flask.request).claim
        assert claim is not None, "it has a key"
        simulation.runs += 1
        self._run = f"{request.payload} by {self._number}, run {simulation.runs}"
        with simulation.rules():
            simulation.checker.runs(self._number, request, claim)
            simulation.database_checker.runs(request)
        simulation.database.write(self._run)
        if request.fails:
            raise ViewFailed
        body: str | Iterator[str] = iter(["a stream"]) if request.unread else self._run
        return flask.Response(body, request.status, {"Run": self._run})  # type: ignore[arg-type]

    def handle(self, error: Exception) -> flask.Response:
        """The error handler of a commit that failed."""
        claim = request_state(flask.request).claim
        if not self._request.error_status or claim is None or claim.settled:
            raise error  # Flask asks again, when the handler's answer is not committed either.
        return flask.Response(
            status=self._request.error_status, headers={"Run": f"{self._run}, handled"}
        )

    def send(self) -> None:
        """Send the request, and check its answer.

        :raises Unavailable: when it is to be sent again.
        """
        try:
            status, headers, body = self._exchange()
        except ViewFailed:
            return
        except (ConnectionLost, UniqueViolation) as error:
            raise Unavailable(str(error)) from error
        if status.startswith("503"):
            raise Unavailable(body.decode())
        request, checker = self._request, self.simulation.checker
        if "Run" in headers:
            self.simulation.database_checker.given(request, headers["Run"])
        elif b"key-reused" in body:
            self.simulation.database_checker.refused(request)
            checker.answered(self._number, request, FingerprintMismatch())
        elif b"outcome-unknown" in body:
            checker.answered(self._number, request, OutcomeUnknown())
        elif b"in-progress" in body:
            checker.answered(self._number, request, StillRunning(None))
        else:
            assert b"response-not-kept" in body, f"{status}: {body!r}"

    def _exchange(self) -> tuple[str, dict[str, str], bytes]:
        app = state_for(self._request).app
        environ = create_environ(
            method="POST", data=self._request.payload, headers={"Idempotency-Key": "key"}
        )
        environ[_SENDING] = self
        started: list[Any] = []
        answer = app.wsgi_app(environ, lambda *arguments: started.append(arguments))
        ((status, headers, *_),) = started
        try:
            is_unread = self._request.unread and status.startswith("200")
            return status, dict(headers), b"" if is_unread else b"".join(answer)
        finally:
            answer.close()  # type: ignore[attr-defined]
