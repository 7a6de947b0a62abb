"""Trials: one request, sent in every way in which a client may send it twice."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from flask_idempotent.testing import checks
from flask_idempotent.testing.failures import Fault, error_of
from flask_idempotent.testing.requests import Call, note
from flask_idempotent.testing.results import Answer, Listener
from flask_idempotent.testing.target import view_of

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from flask_idempotent.testing.clock import Clock
    from flask_idempotent.testing.store import CrashableStore

WithKey = Callable[[str], Mapping[str, Any]]


class Trial:
    """The checks of one request.

    :param client: who sends it.
    :param request: keywords of the client's ``open``.
    :param with_key: which of them a key changes; None where it goes in a header.
    """

    def __init__(
        self,
        client: FlaskClient,
        method: str,
        path: str,
        request: Mapping[str, Any],
        with_key: WithKey | None,
    ) -> None:
        self._client = client
        self._app = client.application
        self._method = method.upper()
        self._path = path
        self._request = request
        self._with_key = with_key
        self._listener = Listener()
        # Noted once: files that a client uploads cannot be read again.
        self._plain = self._note({} if with_key is None else with_key(_new_key()))
        self._view = view_of(self._app, self._plain, self._method)
        #: What was found wrong, by what mends it.
        self._faults: dict[str, Fault] = {}

    def _note(self, changes: Mapping[str, Any]) -> Call:
        return note(self._client, self._method, self._path, {**self._request, **changes})

    def _call(self, key: str) -> Call:
        if self._with_key is not None:
            return self._note(self._with_key(key))
        return self._carrying(self._plain, key)

    def _carrying(self, call: Call, key: str) -> Call:
        settings = self._view.settings
        return call.with_header(settings.headers[0], f'"{key}"' if settings.strict_keys else key)

    def _send(self, call: Call) -> Answer:
        with self._listener.listening(self._app):
            return self._listener.send(call)

    def _add(self, *faults: Fault | None) -> None:
        for fault in faults:
            if fault is not None:
                self._faults.setdefault(fault.mend, fault)

    def conclude(self) -> None:
        """Raise what was found wrong, if anything was.

        :raises NotIdempotent: with each fault once.
        """
        if self._faults:
            request = f"{self._method} {self._path}"
            raise error_of(tuple(self._faults.values()), request, self._view.name)

    def repeat(self, changed: Mapping[str, Any] | bool, cookies: bool) -> tuple[TestResponse, bool]:
        """Send a request, the same again, and another with the same key.

        :param changed: what makes it another: keywords; True for a body that differs a little;
            False to send no other.
        :param cookies: whether a replay must set the cookies of the first answer.
        :returns: the first answer, and whether a retry got it; if not, nothing else can be told.
        """
        key = _new_key()
        call = self._call(key)
        first = self._send(call)
        self._add(checks.of_first(first, key, self._view))
        if not first.is_kept:
            return first.response, False
        replay = self._send(call)
        fault = checks.of_retry(replay, first)
        if fault is not None:
            self._add(fault)
            return first.response, False
        self._add(*checks.of_replay(replay, first, self._view))
        if cookies:
            name = self._app.session_interface.get_cookie_name(self._app)
            self._add(checks.of_cookies(replay, first, name))
        if changed is not False:
            other = self._other(call, key, changed)
            self._add(checks.of_reuse(self._send(other), self._view))
        return first.response, True

    def _other(self, call: Call, key: str, changed: Mapping[str, Any] | bool) -> Call:
        if isinstance(changed, bool):
            return call.with_other_body()
        if self._with_key is not None:
            return self._note({**self._with_key(key), **changed})
        return self._carrying(self._note(changed), key)

    def race(self, racers: int) -> None:
        """Send a request many times at once."""
        call = self._call(_new_key())
        start = threading.Barrier(racers)

        def run(_: int) -> Answer:
            start.wait()
            return self._listener.send(call)

        with self._listener.listening(self._app), ThreadPoolExecutor(racers) as pool:
            answers = list(pool.map(run, range(racers)))
        self._add(*checks.of_race(answers, self._view))

    def crash(self, store: CrashableStore, clock: Clock) -> None:
        """Send a request whose owner dies after the view, and again when its lease is over."""
        call = self._call(_new_key())
        with store.crash():
            lost = self._send(call)
        if (fault := checks.of_crash(lost, self._view)) is not None:
            self._add(fault)
            return
        (info,) = store.inspect([lost.told["claimed"]["storage_key"]])
        assert info.lease_left_ms is not None, "the store heard nothing of its end"
        clock.move(info.lease_left_ms / 1000)
        rerun = self._send(call)
        self._add(checks.of_rerun(rerun, lost, self._view))
        if "completed" in rerun.told:
            self._add(*checks.of_answer(self._send(call), rerun, self._view))


def _new_key() -> str:
    return secrets.token_hex(8)
