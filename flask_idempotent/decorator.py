"""The decorator: ``@idempotent`` on a view."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack, overload
from weakref import WeakSet

from flask import Flask, current_app, request_started
from flask.globals import request_ctx

from flask_idempotent.errors import SettingsError
from flask_idempotent.handler import handle
from flask_idempotent.keys import may_matter
from flask_idempotent.marks import EXEMPT, layers_of, mark, own_overrides
from flask_idempotent.settings import Overrides, check_overrides
from flask_idempotent.state import EXTENSION, state_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

View = TypeVar("View", bound=Callable[..., Any])


class _Decorator:
    """The type of ``idempotent``."""

    @overload
    def __call__(self, view: View, /) -> View: ...

    @overload
    def __call__(self, /, **overrides: Unpack[Overrides]) -> Callable[[View], View]: ...

    def __call__(self, view: Any = None, /, **overrides: Any) -> Any:
        """Run a view once for each idempotency key.

        Every other request with the key, at the same moment or later, gets the first one's
        response. Used bare, ``@idempotent``, or with keywords, which win over the extension's and
        the application's: see the settings page for each. It stands below ``@app.route`` and
        below what checks who is asking; it goes on functions, async functions and
        ``MethodView.decorators``.

        :param timeout: how long a duplicate waits for the first: seconds or a timedelta.
        :param expire: how long the response is kept: seconds or a timedelta.
        :param lease: how long a claim outlives an owner that died: seconds or a timedelta.
        :raises SettingsError: on a wrong name, type or range.
        """
        if view is None:
            check_overrides(overrides)
            return lambda function: _protect(function, overrides)
        if not callable(view):
            raise SettingsError(
                f"@idempotent takes keywords, as in @idempotent(expire=240), not {view!r}"
            )
        return _protect(view, overrides)

    def exempt(self, view: View) -> View:
        """Leave a view alone that ``Idempotent(app)`` would protect.

        It stands directly below ``@app.route``.
        """
        mark(view, EXEMPT)
        return view


#: Where a request's environment says that a decorated function was called.
_CALLED = "flask_idempotent.called"
#: Where a decorated function has itself; what another decorator makes of it has that too.
_ITSELF = "_idempotent_itself"


def _protect(view: Callable[..., Any], overrides: dict[str, Any]) -> Callable[..., Any]:
    function = _as_function(view) if iscoroutinefunction(view) else view
    name = id(overrides)

    # Every request comes by here, with a key or without: even a call counts.
    @wraps(view)
    def protected(*args: Any, **kwargs: Any) -> Any:
        context = request_ctx._get_current_object()  # type: ignore[attr-defined]
        app, current = context.app, context.request
        environ = current.environ
        try:
            state = app.extensions[EXTENSION]
            settings = state.resolved[name]
        except KeyError:
            state = state_of(app)
            settings = state.settings(overrides)
        rule = current.url_rule
        routed = rule and app.view_functions.get(rule.endpoint)
        # Flask itself takes whatever a view returns, and what a nested call returns is the caller's
        # to use.
        raw = routed is protected or _is_nested(environ, routed)
        if state.key_finders or may_matter(environ, settings):
            answer = handle(state, settings, current, partial(function, *args, **kwargs))
        else:
            answer = function(*args, **kwargs)
        if raw:
            return answer
        # Under the extension a view without a decorator of its own is the outermost call.
        if state.app_wide and own_overrides(routed, current.method) is None:
            return answer
        # Without a key too: else a decorator above, such as a schema that leaves out what a client
        # must not see, would get the view's value from requests without a key alone.
        return app.make_response(answer)

    mark(protected, overrides)
    setattr(protected, _ITSELF, protected)
    _first_requests.expect(protected)
    return protected


def _is_nested(environ: WSGIEnvironment, routed: object) -> bool:
    # Flask has called a decorated function before this one, or somebody has.
    nested = getattr(routed, _ITSELF, None) is routed or _CALLED in environ
    environ[_CALLED] = True
    return nested


def _as_function(view: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: current_app.ensure_sync(view)(*args, **kwargs)


class _FirstRequests:
    """Prepares each application that has decorated views at its first request."""

    #: A decorated function that no application has shown in so many requests is taken for unused.
    PATIENCE = 1000

    def __init__(self) -> None:
        self._unseen: WeakSet[Callable[..., Any]] = WeakSet()
        self._met: WeakSet[Flask] = WeakSet()
        self._left = 0

    def expect(self, view: Callable[..., Any]) -> None:
        self._unseen.add(view)
        self._left = self.PATIENCE
        request_started.connect(self.prepare)

    def prepare(self, app: Flask, **_: object) -> None:
        if app not in self._met:
            self._met.add(app)
            state_of(app).prepare(app)
            for view in app.view_functions.values():
                self._unseen.difference_update(layers_of(view))
        self._left -= 1
        if not self._unseen or self._left <= 0:
            # Every request pays for a signal that has a receiver.
            request_started.disconnect(self.prepare)


_first_requests = _FirstRequests()


#: The decorator; its members are documented at ``__call__`` and ``exempt``.
idempotent: Final = _Decorator()
