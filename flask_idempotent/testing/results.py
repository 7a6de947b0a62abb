"""Answers: what a client got, and what the library told of it meanwhile."""

from __future__ import annotations

import html
import re
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flask import request_finished, request_started

from flask_idempotent import signals
from flask_idempotent.web.flask_compat import current_context, session_of

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.test import TestResponse

    from flask_idempotent.testing.requests import Call

#: What no reader of a page sees as text, and marks that are none.
_NO_TEXT: Final = re.compile(r"<(title|style|script)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
#: Characters that are shown of an answer.
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request.

    :param response: what the client got.
    :param told: the data of the signals that it caused, by their names.
    :param written: the names of the session's entries that it changed.
    """

    response: TestResponse
    told: dict[str, dict[str, Any]]
    written: frozenset[str]

    @property
    def is_kept(self) -> bool:
        """Whether the view ran, and a retry gets its response."""
        return "claimed" in self.told and self.told.get("completed", {}).get("kept", False)

    @property
    def shown(self) -> str:
        """What it says, in few words; of a redirect, where it leads."""
        if self.response.location is not None:
            return f"go to {self.response.location}"
        body = self.response.get_data().decode(errors="replace")
        return textwrap.shorten(html.unescape(_NO_TEXT.sub(" ", body)), _SHOWN, placeholder=" ...")

    @property
    def cookies(self) -> set[str]:
        """The names of the cookies that it sets."""
        return {value.partition("=")[0] for value in self.response.headers.getlist("Set-Cookie")}


class Listener:
    """Sends requests and hears what is told of each, in the thread that sends it."""

    def __init__(self) -> None:
        self._here = threading.local()

    def send(self, call: Call) -> Answer:
        """Send a request and listen meanwhile."""
        told = self._here.told = {}
        self._here.written = frozenset()
        return Answer(call.send(), told, self._here.written)

    @contextmanager
    def listening(self, app: Flask) -> Iterator[None]:
        """Hear an application. Once for all threads: connecting is not for several at once."""
        with ExitStack() as stack:
            for signal in signals.ALL:
                stack.enter_context(signal.connected_to(self._receiver(signal.name), app))
            stack.enter_context(request_started.connected_to(self._begin, app))
            stack.enter_context(request_finished.connected_to(self._finish, app))
            yield

    def _begin(self, *_: object, **__: object) -> None:
        self._here.session = _entries()

    def _finish(self, *_: object, **__: object) -> None:
        before, after = self._here.session, _entries()
        names = before.keys() | after.keys()
        self._here.written = frozenset(n for n in names if before.get(n) != after.get(n))

    def _receiver(self, name: str) -> Callable[..., None]:
        def receive(sender: object, **data: Any) -> None:
            # A thread that sends nothing is one of the library's own.
            if hasattr(self._here, "told"):
                self._here.told[name] = data

        return receive


def _entries() -> dict[str, Any]:
    # A copy, because entries that are lists may grow; and unseen, so that no answer varies by it.
    session = session_of(current_context())
    accessed = session.accessed
    try:
        return deepcopy(dict(session))
    finally:
        session.accessed = accessed
