"""``Idempotency``: applications on fresh stores, a clock to advance, and the check of a view."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flask import Flask

from flask_idempotent.testing.clock import Clock
from flask_idempotent.testing.failures import NotIdempotent
from flask_idempotent.testing.scenarios import Scenarios
from flask_idempotent.testing.states import Past, PreparedKey, State
from flask_idempotent.testing.store import CrashableStore
from flask_idempotent.web.state import state_of

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse


class Idempotency:
    """Puts applications on fresh stores in memory for as long as a test lasts.

    A context manager; with pytest the fixture ``idempotency`` enters it for each test.
    """

    def __init__(self) -> None:
        #: The clock of leases and expiry: ``clock.advance(seconds)``.
        self.clock = Clock()
        self._stores: dict[Flask, CrashableStore] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stores.clear()
        self._stack.close()

    def use(self, app: Flask) -> None:
        """Give an application a fresh store until the end of the test.

        Call it after ``Idempotent(app)``, if that is used. The application's own store is not
        touched and need not be reachable. A second call changes nothing.

        :raises TypeError: when it is not a Flask application.
        """
        if not isinstance(app, Flask):
            raise TypeError(f"idempotency works on a Flask application, not on {app!r}")
        if app not in self._stores:
            self._stores[app] = CrashableStore(self.clock)
            self._stack.enter_context(state_of(app).using_store(self._stores[app]))

    @contextmanager
    def crash(self) -> Iterator[None]:
        """Let owners crash: views run in this block, but their outcomes never reach the store.

        Their claims stay until their leases end: ``clock.advance(30)``, or whatever ``lease`` is.

        :raises ValueError: when no application is on a store of this object yet.
        """
        if not self._stores:
            raise ValueError("no application can crash yet: name it first, idempotency.use(app)")
        with ExitStack() as stack:
            for store in self._stores.values():
                stack.enter_context(store.crash())
            yield

    def prepare_key(
        self,
        state: State,
        client: FlaskClient,
        method: str,
        path: str,
        *,
        steps: Mapping[str, Any] | None = None,
        open_step: str = "",
        with_key: Callable[[str], Mapping[str, Any]] | None = None,
        **request: Any,
    ) -> PreparedKey:
        """Put a new key into a state, as an earlier request that was interrupted leaves it.

        The view does not run. Send the request again with ``send()`` of what is returned::

            retry = idempotency.prepare_key(
                "lapsed", client, "POST", "/orders", json=order, steps={"reserve": 7}
            )
            assert retry.send().status_code == 201

        :param state: ``"running"``: its owner has the lease, which no other request gets before
            the clock is advanced. ``"lapsed"``: its owner died. ``"held"``: so it did, and nobody
            runs the view; where ``on_crash`` is a function, it has just said "hold".
            ``"released"``: its view failed.
        :param steps: what the steps of the view have returned, by their names.
        :param open_step: the name of the step with ``once=True`` that has begun after these, and
            is not known to have ended.
        :param with_key: as for ``assert_idempotent``.
        :param request: keywords of ``client.open``: ``json``, ``data``, ``headers`` and so on.
        :raises NotIdempotent: when the request claims no key; it says why.
        :raises ValueError: when there is no such state, or keys of this view never get into it.
        :raises TypeError: when what a step has returned cannot be recorded, or the client is not a
            test client of a Flask application.
        """
        __tracebackhide__ = True
        app = self._use_app_of(client)
        past = Past(state, steps or {}, open_step)
        scenarios = Scenarios(client, method, path, request, with_key)
        return scenarios.prepare(past, self._stores[app])

    def _use_app_of(self, client: FlaskClient) -> Flask:
        app = getattr(client, "application", None)
        if not isinstance(app, Flask):
            raise TypeError(f"the client must come from app.test_client(), not {client!r}")
        self.use(app)
        return app

    def assert_idempotent(
        self,
        client: FlaskClient,
        method: str,
        path: str,
        *,
        changed: Mapping[str, Any] | bool = True,
        cookies: bool = True,
        threads: int = 8,
        crash: bool = True,
        with_key: Callable[[str], Mapping[str, Any]] | None = None,
        **request: Any,
    ) -> TestResponse:
        """Assert that a request sent several times, at once or later, runs its view once.

        The view runs once for each of three keys, and again for the last, whose owner crashes.
        Where it has steps, it also runs twice for each command that is sent about one of them: the
        owner crashes before that command, and after it.

        :param client: ``app.test_client()``, logged in if that is needed.
        :param changed: keywords that make it a different request, which must be refused under
            the same key; True for a slightly different body, False to skip the check.
        :param cookies: whether it is a failure that the first response sets a cookie, which no
            replay repeats. What ``replay_session`` repeats of the session is not a failure.
        :param threads: how many threads send it at once; below 2 skips the check.
        :param crash: whether to let an owner crash after its view, and at each of its steps, and
            send the request again.
        :param with_key: given a key, returns the keywords of the request that carry it; None for
            the application's header.
        :param request: keywords of ``client.open``: ``json``, ``data``, ``headers`` and so on.
        :returns: the first response.
        :raises NotIdempotent: an ``AssertionError`` that says everything that is wrong with the
            view, and how to fix it.
        :raises TypeError: when the client is not a test client of a Flask application.
        """
        __tracebackhide__ = True
        app = self._use_app_of(client)
        try:
            scenarios = Scenarios(client, method, path, request, with_key)
            first, replayed = scenarios.repeat(changed, cookies)
            if replayed and threads > 1:
                scenarios.race(threads)
            if replayed and crash:
                scenarios.crash(self._stores[app])
            scenarios.conclude()
        except NotIdempotent as failure:
            # The traceback of this package says nothing about the view.
            raise failure.with_traceback(None) from None
        return first


def assert_idempotent(
    client: FlaskClient,
    method: str,
    path: str,
    *,
    changed: Mapping[str, Any] | bool = True,
    cookies: bool = True,
    threads: int = 8,
    crash: bool = True,
    with_key: Callable[[str], Mapping[str, Any]] | None = None,
    **request: Any,
) -> TestResponse:
    """Do the same as :meth:`Idempotency.assert_idempotent`, on a fresh store, without pytest."""
    __tracebackhide__ = True
    with Idempotency() as idempotency:
        return idempotency.assert_idempotent(
            client,
            method,
            path,
            changed=changed,
            cookies=cookies,
            threads=threads,
            crash=crash,
            with_key=with_key,
            **request,
        )
