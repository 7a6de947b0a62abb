"""Scenarios: one request, sent in every way in which a client may send it twice."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flask_idempotent.testing import checks, step_checks
from flask_idempotent.testing.failures import Failure, error_for
from flask_idempotent.testing.requests import RecordedRequest, record_request
from flask_idempotent.testing.results import Result, record_signals, send_recorded
from flask_idempotent.testing.states import Past, PreparedKey
from flask_idempotent.testing.store import CrashableStore, OwnerCrashed, StepCrash
from flask_idempotent.testing.target import find_target

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse


WithKey = Callable[[str], Mapping[str, Any]]


class Scenarios:
    """Runs the scenarios of one request, and collects the failures.

    :param client: the test client that sends it.
    :param method: its method, in upper or lower case.
    :param path: its path.
    :param request: further keywords of the client's ``open``.
    :param with_key: given a key, returns the keywords that carry it; None for a header.
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
        record_signals(self._app)
        # Recorded once, because uploaded files cannot be read again.
        self._plain = self._record({} if with_key is None else with_key(_new_key()))
        self._target = find_target(self._app, self._plain, self._method)
        #: Failures by their fix, so that each is reported once.
        self._failures: dict[str, Failure] = {}

    def _record(self, changes: Mapping[str, Any]) -> RecordedRequest:
        return record_request(self._client, self._method, self._path, {**self._request, **changes})

    def _call(self, key: str) -> RecordedRequest:
        if self._with_key is not None:
            return self._record(self._with_key(key))
        return self._carrying(self._plain, key)

    def _carrying(self, call: RecordedRequest, key: str) -> RecordedRequest:
        settings = self._target.settings
        return call.with_header(settings.headers[0], f'"{key}"' if settings.strict_keys else key)

    def _add(self, *failures: Failure | None) -> None:
        for failure in failures:
            if failure is not None:
                self._failures.setdefault(failure.fix, failure)

    def conclude(self) -> None:
        """Raise the failures, if there are any.

        :raises NotIdempotent: with each failure once.
        """
        if self._failures:
            request = f"{self._method} {self._path}"
            raise error_for(tuple(self._failures.values()), request, self._target.name)

    def repeat(self, changed: Mapping[str, Any] | bool, cookies: bool) -> tuple[TestResponse, bool]:
        """Send a request, the same again, and a different one with the same key.

        :param changed: keywords that make it different; True for a slightly different body, False
            to skip the different request.
        :param cookies: whether a replay must set the cookies of the first response.
        :returns: the first response, and whether a retry got it. If not, no other check makes
            sense.
        """
        key = _new_key()
        call = self._call(key)
        first = send_recorded(call)
        self._add(checks.check_first(first, key, self._target))
        if not first.is_kept:
            return first.response, False
        replay = send_recorded(call)
        failure = checks.check_retry(replay, first)
        if failure is not None:
            self._add(failure)
            return first.response, False
        self._add(*checks.check_replay(replay, first, self._target))
        if cookies:
            name = self._app.session_interface.get_cookie_name(self._app)
            self._add(checks.check_cookies(replay, first, name, self._target))
        if changed is not False:
            other = self._other(call, key, changed)
            self._add(checks.check_reuse(send_recorded(other), self._target))
        return first.response, True

    def _other(
        self, call: RecordedRequest, key: str, changed: Mapping[str, Any] | bool
    ) -> RecordedRequest:
        if isinstance(changed, bool):
            return call.with_other_body()
        if self._with_key is not None:
            return self._record({**self._with_key(key), **changed})
        return self._carrying(self._record(changed), key)

    def race(self, threads: int) -> None:
        """Send a request many times at once."""
        call = self._call(_new_key())
        start = threading.Barrier(threads)

        def run(_: int) -> Result:
            start.wait()
            return send_recorded(call)

        with ThreadPoolExecutor(threads) as pool:
            results = list(pool.map(run, range(threads)))
        self._add(*checks.check_race(results, self._target))

    def crash(self, store: CrashableStore) -> None:
        """Send a request whose owner crashes after the view, and again after its lease.

        The same for a crash before and after each command about a step of the view.
        """
        call = self._call(_new_key())
        store.step_commands = 0
        with store.crash():
            lost = send_recorded(call)
        step_commands = store.step_commands
        if (failure := checks.check_crash(lost, self._target)) is not None:
            self._add(failure)
            return
        store.end_lease(lost.signals["claimed"]["storage_key"])
        rerun = self._send_again(call, "after the view had returned")
        self._add(checks.check_rerun(rerun, lost, self._target))
        for number in range(1, step_commands + 1):
            for carried_out in (False, True):
                self._crash_at_step(store, StepCrash(number, carried_out), lost)

    def _crash_at_step(self, store: CrashableStore, crash: StepCrash, first: Result) -> None:
        call = self._call(_new_key())
        with store.crash_at_step(crash), suppress(OwnerCrashed):
            send_recorded(call)
        if crash.step is None:
            return  # This run has called fewer steps than the first.
        store.end_lease(crash.storage_key)
        rerun = self._send_again(call, crash.description)
        self._add(*step_checks.check_continuation(rerun, first, crash, self._target))

    def _send_again(self, call: RecordedRequest, when: str) -> Result:
        """Send a request whose owner has crashed, and once more where it is answered now.

        :param when: when the owner crashed.
        """
        try:
            rerun = send_recorded(call)
        except Exception as error:
            error.add_note(f"The view ran again after its owner had crashed {when}.")
            raise
        if "completed" in rerun.signals:
            self._add(*checks.check_duplicate(send_recorded(call), rerun, self._target))
        return rerun

    def prepare(self, past: Past, store: CrashableStore) -> PreparedKey:
        """Leave a new key as an earlier request has.

        :raises NotIdempotent: when the request claims no key.
        :raises ValueError: when keys of this view never get into the state.
        :raises TypeError: when what a step has returned cannot be recorded.
        """
        past.check(self._target.settings)
        key = _new_key()
        call = self._call(key)
        with past.instead_of_view(self._app, store):
            self._add(checks.of_unclaimed(send_recorded(call), self._target))
        self.conclude()
        return PreparedKey(key, past.leave(self._app, store), call)


def _new_key() -> str:
    return secrets.token_hex(8)
