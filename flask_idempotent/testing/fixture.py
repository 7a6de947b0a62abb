"""The fixture's object: applications on fresh stores, a clock to move, and the check of a view."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flask import Flask

from flask_idempotent.testing.clock import Clock
from flask_idempotent.testing.failures import NotIdempotent
from flask_idempotent.testing.scenarios import Trial
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
        #: The clock of leases and expiry: ``clock.move(seconds)``.
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
        """Put an application on a fresh store until the end; a second call changes nothing.

        ``Idempotent(app)`` comes before, where it is used. What store the application has, and
        whether that can be reached, does not matter.
        """
        if not isinstance(app, Flask):
            raise TypeError(f"idempotency works on a Flask application, not on {app!r}")
        if app not in self._stores:
            self._stores[app] = CrashableStore(self.clock)
            self._stack.enter_context(state_of(app).using_store(self._stores[app]))

    @contextmanager
    def crash(self) -> Iterator[None]:
        """Let owners die: views run in this block, and nothing of their end reaches the store.

        Their claims stay until their leases end: ``clock.move(30)``, or what ``lease`` says.

        :raises ValueError: when no application is on a store of this object yet.
        """
        if not self._stores:
            raise ValueError("no application can crash yet: name it first, idempotency.use(app)")
        with ExitStack() as stack:
            for store in self._stores.values():
                stack.enter_context(store.crash())
            yield

    def assert_idempotent(
        self,
        client: FlaskClient,
        method: str,
        path: str,
        *,
        changed: Mapping[str, Any] | bool = True,
        cookies: bool = True,
        racers: int = 8,
        crash: bool = True,
        with_key: Callable[[str], Mapping[str, Any]] | None = None,
        **request: Any,
    ) -> TestResponse:
        """Assert that a request may be sent twice, at once and later, and its view runs once.

        The view runs once for each of three keys, and a second time for the last, whose owner
        dies.

        :param client: ``app.test_client()``, logged in where that is needed.
        :param changed: keywords that make it another request, which must be refused under the
            same key; True for a body that differs a little, False to leave the check out.
        :param cookies: whether it is a fault that the first answer sets a cookie, as no replay
            repeats it. A message of ``flash()`` alone is none.
        :param racers: how many threads send it at once; below 2 leaves the check out.
        :param crash: whether to let an owner die after its view, and send the request again.
        :param with_key: given a key, returns the keywords of the request that carry it; None for
            the application's header.
        :param request: keywords of ``client.open``: ``json``, ``data``, ``headers`` and so on.
        :returns: the first answer.
        :raises NotIdempotent: an ``AssertionError`` that says all that is wrong with the view and
            how to mend it.
        """
        __tracebackhide__ = True
        app = getattr(client, "application", None)
        if not isinstance(app, Flask):
            raise TypeError(f"the client must come from app.test_client(), not {client!r}")
        self.use(app)
        try:
            trial = Trial(client, method, path, request, with_key)
            first, replayed = trial.repeat(changed, cookies)
            if replayed and racers > 1:
                trial.race(racers)
            if replayed and crash:
                trial.crash(self._stores[app], self.clock)
            trial.conclude()
        except NotIdempotent as fault:
            # Where it is raised tells nothing of the view.
            raise fault.with_traceback(None) from None
        return first


def assert_idempotent(
    client: FlaskClient,
    method: str,
    path: str,
    *,
    changed: Mapping[str, Any] | bool = True,
    cookies: bool = True,
    racers: int = 8,
    crash: bool = True,
    with_key: Callable[[str], Mapping[str, Any]] | None = None,
    **request: Any,
) -> TestResponse:
    """Do what :meth:`Idempotency.assert_idempotent` does, on a fresh store, without pytest."""
    __tracebackhide__ = True
    with Idempotency() as idempotency:
        return idempotency.assert_idempotent(
            client,
            method,
            path,
            changed=changed,
            cookies=cookies,
            racers=racers,
            crash=crash,
            with_key=with_key,
            **request,
        )
