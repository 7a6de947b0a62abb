"""The decorator: ``@idempotent`` on a view."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, Final, TypeVar, Unpack, overload
from weakref import WeakSet

from flask import Flask, request_started
from flask.globals import request_ctx

from flask_idempotent.errors import SettingsError
from flask_idempotent.handler import handle
from flask_idempotent.keys import may_matter
from flask_idempotent.marks import EXEMPT, layers_of, mark, own_overrides
from flask_idempotent.settings import Overrides, check_overrides
from flask_idempotent.state import EXTENSION, state_of

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


#: Where a request's environment holds the keywords of its first call. What a nested one returns is
#: the caller's to use.
_OUTERMOST = "flask_idempotent.outermost"


def _protect(view: Callable[..., Any], overrides: dict[str, Any]) -> Callable[..., Any]:
    is_async = iscoroutinefunction(view)
    name = id(overrides)

    @wraps(view)
    def protected(*args: Any, **kwargs: Any) -> Any:
        context = request_ctx._get_current_object()  # type: ignore[attr-defined]
        app, current = context.app, context.request
        state = app.extensions.get(EXTENSION) or state_of(app)
        function = app.ensure_sync(view) if is_async else view
        # Every request comes by here, with a key or without, so even a call is spared.
        settings = state.resolved.get(name) or state.settings(overrides)
        # The keywords are a dictionary of this call alone.
        nested = current.environ.setdefault(_OUTERMOST, kwargs) is not kwargs
        if state.key_finders or may_matter(current.environ, settings):
            answer = handle(state, settings, current, partial(function, *args, **kwargs))
        else:
            answer = function(*args, **kwargs)
        rule = current.url_rule
        routed = None if rule is None else app.view_functions.get(rule.endpoint)
        if nested or routed is protected:
            return answer
        # Under the extension a view without a decorator of its own is the outermost call.
        if state.app_wide and own_overrides(routed, current.method) is None:
            return answer
        # Without a key too: else a decorator above, such as a schema that leaves out what a client
        # must not see, would get the view's value from requests without a key alone.
        return app.make_response(answer)

    mark(protected, overrides)
    _unseen.add(protected)
    request_started.connect(_prepare)
    return protected


#: Decorated views whose application has not had its first request.
_unseen: WeakSet[Callable[..., Any]] = WeakSet()


def _prepare(app: Flask, **_: object) -> None:
    state = state_of(app)
    if not state.prepared:
        state.prepare(app)
        for view in app.view_functions.values():
            _unseen.difference_update(layers_of(view))
    if not _unseen:
        # Later requests need not pay for a signal.
        request_started.disconnect(_prepare)


#: The decorator; its members are documented at ``__call__`` and ``exempt``.
idempotent: Final = _Decorator()
