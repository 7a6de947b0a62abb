"""The decorator: ``@idempotent`` on a view."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial, wraps
from inspect import iscoroutinefunction
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack, overload
from weakref import WeakSet

from flask import Blueprint, Flask, current_app, has_request_context, request_started

from flask_idempotent.errors import OutsideRequest, SettingsError
from flask_idempotent.http.keys import may_matter
from flask_idempotent.settings import Overrides, check_overrides
from flask_idempotent.web.extension import wrap_dispatching
from flask_idempotent.web.flask_compat import current_context
from flask_idempotent.web.handler import handle
from flask_idempotent.web.marks import (
    EXEMPT,
    NO_OVERRIDES,
    is_protecting,
    layers_of,
    mark,
    mark_decorated,
    mark_decorator,
    mark_of,
    methods_of,
)
from flask_idempotent.web.placement import check_blueprint, check_exempt, check_view
from flask_idempotent.web.protection import forget_all, name_of
from flask_idempotent.web.state import EXTENSION, State, state_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask.blueprints import BlueprintSetupState

View = TypeVar("View", bound=Callable[..., Any])
#: A view, a class of views or a blueprint.
Exempt = TypeVar("Exempt", bound=Callable[..., Any] | Blueprint)
AnyBlueprint = TypeVar("AnyBlueprint", bound=Blueprint)


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
        check_overrides(overrides)
        if view is None:
            decorator = partial(_protect, overrides=overrides or NO_OVERRIDES)
            mark_decorator(decorator, decorator.keywords["overrides"])
            return decorator
        return _protect(view, overrides or NO_OVERRIDES)

    def exempt(self, view: Exempt) -> Exempt:
        """Leave a view, a class of views or a blueprint alone that would be protected.

        On a view it stands directly below ``@app.route``, on a ``MethodView`` above the class or
        one of its methods; a blueprint is given to it. A decorator of a view that is nearer to it
        wins: a decorated view in an exempt blueprint is protected.

        :raises SettingsError: when it is given something else, or a decorated view.
        """
        check_exempt(view)
        mark(view, EXEMPT)
        forget_all()
        return view

    def protect(self, blueprint: AnyBlueprint, **overrides: Unpack[Overrides]) -> AnyBlueprint:
        """Protect every view of a blueprint, and of those nested in it.

        The blueprint may be registered several times, and in several applications. The keywords
        are those of ``@idempotent``; a view's own win over them, and they win over the extension's.

        :returns: the blueprint.
        :raises SettingsError: on a wrong name, type or range, when it is given something else than
            a blueprint, or a blueprint that was registered or protected before.
        """
        check_overrides(overrides)
        check_blueprint(blueprint, overrides)
        if mark_of(blueprint) is None:
            try:
                blueprint.record(_protect_views)
            except AssertionError:
                raise SettingsError(_REGISTERED_BEFORE.format(blueprint.name)) from None
            mark(blueprint, overrides)
        return blueprint


#: Where a request's environment says that a decorated function runs.
_INSIDE = "flask_idempotent.inside"


def _protect(view: Callable[..., Any], overrides: Mapping[str, Any]) -> Callable[..., Any]:
    check_view(view)
    is_async = iscoroutinefunction(view)
    function = _as_function(view) if is_async else view
    name = id(overrides)

    # Every request comes by here, with a key or without: even a call counts.
    @wraps(view)
    def protected(*args: Any, **kwargs: Any) -> Any:
        if is_async and _is_awaited():
            return _awaitable(protected)(*args, **kwargs)
        try:
            context = current_context()
        except RuntimeError:
            raise OutsideRequest(_NO_REQUEST.format(name_of(view))) from None
        app, current = context.app, context.request
        rule, method = current.url_rule, current.method
        endpoint: Any = rule and rule.endpoint
        routed = app.view_functions.get(endpoint)
        state = app.extensions.get(EXTENSION) or _first_requests.missed(app)
        call = state.protections.calls.get((name, endpoint, method))
        if call is None or call.view is not routed:
            call = state.protections.of_call(protected, overrides, endpoint, method)
        settings = call.settings
        # Flask itself takes whatever a view returns, and what a nested call returns is the caller's
        # to use.
        environ = current.environ
        raw = call.nested or routed is protected or is_protecting(routed) or _INSIDE in environ
        run: Callable[[], Any] = partial(function, *args, **kwargs)
        framework = None if raw else call.framework
        if framework is not None:
            run = framework.wrap(run)
        if settings is not None and (state.key_finders or may_matter(environ, settings)):
            part = None if routed is protected else protected
            run = partial(handle, state, settings, current, run, part)
        if raw:
            return run()
        answer = _run_outermost(environ, run)
        # Without a key too: else a decorator above, such as a schema that leaves out what a client
        # must not see, would get the view's value from requests without a key alone.
        response = app.make_response(answer)
        return response if framework is None else framework.hand_over(response)

    mark_decorated(protected, view, overrides)
    if not has_request_context():
        _first_requests.expect(view if isinstance(view, FunctionType) else protected)
    return protected


def _protect_views(setup: BlueprintSetupState) -> None:
    assert isinstance(setup.app, Flask)
    state_of(setup.app)
    wrap_dispatching(setup.app)


def _as_function(view: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: current_app.ensure_sync(view)(*args, **kwargs)


def _run_outermost(environ: WSGIEnvironment, run: Callable[[], Any]) -> Any:
    environ[_INSIDE] = True
    try:
        return run()
    finally:
        environ.pop(_INSIDE, None)  # Another thread may have been quicker.


def _is_awaited() -> bool:
    # Flask calls an async view in a thread without an event loop, and another async view in one.
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _awaitable(function: Callable[..., Any]) -> Callable[..., Any]:
    # A package of Flask's extra for async views. It runs the function in the request's own thread,
    # and what the function calls in turn in the event loop that awaits it.
    from asgiref.sync import sync_to_async

    return sync_to_async(function)


class _FirstRequests:
    """Prepares each application that may have decorated views at its first request."""

    #: After so many requests without a new application, or a new decorated function, none is
    #: expected any more.
    PATIENCE = 1000

    def __init__(self) -> None:
        self._unseen: WeakSet[Callable[..., Any]] = WeakSet()
        self._met: WeakSet[Flask] = WeakSet()
        self._left: float = 0

    def expect(self, function: Callable[..., Any]) -> None:
        self._unseen.add(function)
        self._listen(self.PATIENCE)

    def missed(self, app: Flask) -> State:
        """Give the state of an application that came late; where one did, others may."""
        self._listen(math.inf)
        return state_of(app)

    def _listen(self, requests: float) -> None:
        self._left = max(self._left, requests)
        request_started.connect(self.prepare)

    def prepare(self, app: Flask, **_: object) -> None:
        if app not in self._met:
            self._unseen.difference_update(_functions(app))
            state = state_of(app)
            # A decorated function that is no view of any application is called by one.
            state.calls_inside |= bool(self._unseen)
            state.prepare(app)
            self._met.add(app)
            self._left = max(self._left, self.PATIENCE)
        self._left -= 1
        if self._left <= 0:
            # Every request pays for a signal that has a receiver.
            request_started.disconnect(self.prepare)


def _functions(app: Flask) -> Iterator[FunctionType]:
    for view in app.view_functions.values():
        for method in methods_of(view):
            for layer in layers_of(view, method):
                if isinstance(layer, FunctionType):
                    yield layer


_first_requests = _FirstRequests()


_NO_REQUEST = (
    "{} was called outside a request, where @idempotent can protect nothing: it looks for a key in "
    "the request. A script or a task calls the function inside, its __wrapped__"
)
_REGISTERED_BEFORE = (
    "idempotent.protect comes too late for the blueprint {!r}, which has been registered. Call it "
    "before register_blueprint, where the blueprint is made"
)

#: The decorator; its members are documented at ``__call__`` and ``exempt``.
idempotent: Final = _Decorator()
mark_decorator(idempotent, NO_OVERRIDES)
