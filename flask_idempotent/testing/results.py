"""Results: the response that a client got, and the signals that its request caused."""

from __future__ import annotations

import html
import re
import textwrap
import threading
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flask import request_finished, request_started

from flask_idempotent import signals
from flask_idempotent.web.flask_compat import current_context, current_request, session_of
from flask_idempotent.web.request_state import request_state

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.test import TestResponse

    from flask_idempotent.testing.requests import RecordedRequest

#: Tags, and elements of a page that are not shown as text.
_NO_TEXT: Final = re.compile(r"<(title|style|script)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
#: Characters that are shown of a response.
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one request.

    :param response: what the client got.
    :param signals: the data of the signals that it caused, by signal name.
    :param session_changes: the names of the session's entries that it changed.
    :param steps: the names of the steps that its view has called.
    """

    response: TestResponse
    signals: dict[str, dict[str, Any]]
    session_changes: frozenset[str]
    steps: frozenset[str] = frozenset()

    @property
    def is_kept(self) -> bool:
        """Whether the view ran, and a retry gets its response."""
        return "claimed" in self.signals and self.signals.get("completed", {}).get("kept", False)

    @property
    def summary(self) -> str:
        """The text of the response, shortened; of a redirect, its location."""
        if self.response.location is not None:
            return f"go to {self.response.location}"
        body = self.response.get_data().decode(errors="replace")
        return textwrap.shorten(html.unescape(_NO_TEXT.sub(" ", body)), _SHOWN, placeholder=" ...")

    @property
    def cookies(self) -> set[str]:
        """The names of the cookies that it sets."""
        return {value.partition("=")[0] for value in self.response.headers.getlist("Set-Cookie")}


def record_signals(app: Flask) -> None:
    """Receive an application's signals from now on, for the requests that ``send_recorded`` sends.

    They stay connected. To disconnect one, blinker looks at all senders, and fails where another
    thread, or the garbage collection, adds or drops one meanwhile.
    """
    for signal in signals.ALL:
        signal.connect(_RECEIVERS[signal.name], app)
    request_started.connect(_begin, app)
    request_finished.connect(_finish, app)


def send_recorded(call: RecordedRequest) -> Result:
    """Send a request and record the signals that it causes in this thread."""
    caused = _here.signals = {}
    _here.session_changes = _here.steps = frozenset()
    try:
        return Result(call.send(), caused, _here.session_changes, _here.steps)
    finally:
        del _here.signals


#: What the request causes that its thread sends with ``send_recorded``. A thread that sends none
#: has no ``signals``: it is one of the library's own, or a test's.
_here = threading.local()


def _receiver(name: str) -> Callable[..., None]:
    def receive(sender: object, **data: Any) -> None:
        if hasattr(_here, "signals"):
            _here.signals[name] = data

    return receive


_RECEIVERS: Final = {signal.name: _receiver(signal.name) for signal in signals.ALL}


def _begin(*_: object, **__: object) -> None:
    if hasattr(_here, "signals"):
        _here.session = _entries()


def _finish(*_: object, **__: object) -> None:
    if not hasattr(_here, "signals"):
        return
    before, after = _here.session, _entries()
    names = before.keys() | after.keys()
    _here.session_changes = frozenset(n for n in names if before.get(n) != after.get(n))
    claim = request_state(current_request()).claim
    if claim is not None and claim.steps is not None:
        _here.steps = frozenset(claim.steps.names)


def _entries() -> dict[str, Any]:
    # A copy, because entries may be lists that grow. The session is not marked as accessed, which
    # would add Vary to the response.
    session = session_of(current_context())
    accessed = session.accessed
    try:
        return deepcopy(dict(session))
    finally:
        session.accessed = accessed
