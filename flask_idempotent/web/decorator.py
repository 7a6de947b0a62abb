"""The decorator: ``@idempotent`` on a view."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial, wraps
from inspect import iscoroutinefunction
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack, overload

from flask import Blueprint, Flask, current_app, has_request_context

from flask_idempotent._environ import IN_DECORATED
from flask_idempotent.errors import OutsideRequest, SettingsError
from flask_idempotent.options import Overrides, check_overrides
from flask_idempotent.web.dispatching import protect_dispatching
from flask_idempotent.web.first_requests import first_requests
from flask_idempotent.web.flask_compat import RequestContext, current_context
from flask_idempotent.web.handler import handle
from flask_idempotent.web.marks import (
    EXEMPT,
    NO_OVERRIDES,
    mark,
    mark_decorated,
    mark_decorator,
    mark_of,
)
from flask_idempotent.web.placement import check_blueprint, check_exempt, check_view
from flask_idempotent.web.protection import clear_all
from flask_idempotent.web.routes import qualified_name
from flask_idempotent.web.state import EXTENSION_KEY, AppState, state_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask.blueprints import BlueprintSetupState

View = TypeVar("View", bound=Callable[..., Any])
#: A view, a class of views or a blueprint.
Exempt = TypeVar("Exempt", bound=Callable[..., Any] | Blueprint)
AnyBlueprint = TypeVar("AnyBlueprint", bound=Blueprint)


class _Decorator:
    @overload
    def __call__(self, view: View, /) -> View: ...

    @overload
    def __call__(self, /, **overrides: Unpack[Overrides]) -> Callable[[View], View]: ...

    def __call__(self, view: Any = None, /, **overrides: Any) -> Any:
        """Run a view once for each idempotency key.

        Every other request with the key, at the same moment or later, gets the response of the
        first. Requests without a key run as if the decorator were not there::

            @app.post("/orders")
            @login_required
            @idempotent(expire=timedelta(days=1), required=True)
            def create_order():
                order = Order.create(request.get_json())
                return {"order": order.id}, 201

        It goes on functions, on async functions and into ``MethodView.decorators``, below
        ``@app.route`` and below every decorator that checks who is asking. Without keywords it is
        used bare, ``@idempotent``. A keyword wins over the same one of the blueprint and of the
        extension, and over the application's config. Times are seconds, int or float, or a
        ``timedelta``.

        :param timeout: how long a duplicate waits for the first request's response; 60 seconds by
            default. 0 answers "in-progress" at once.
        :param busy_status: the status of that answer: 409, the default, 425, 429 or 503.
        :param expire: how long the response is kept; 240 seconds by default.
        :param lease: how long a claim outlives a process that died; 30 seconds by default. It is
            renewed while the view runs.
        :param on_crash: what happens when the process died: ``"rerun"``, the default, runs the
            view again, ``"hold"`` answers 409 until ``hold_for`` is over, as ``"rerun"`` does while
            a step with ``once`` is unknown. A function is given the ``Crash`` and returns one of
            these, or the response that the view did not give.
        :param hold_for: how long a key is held after a crash; seven days by default.
        :param required: True refuses requests without a key with 400; False by default.
        :param methods: the names of the methods that are tracked; all but GET, HEAD, OPTIONS and
            TRACE by default.
        :param field: the name of the form field and query argument that may carry the key,
            ``"__idempotent_key"`` by default; None to read neither.
        :param key: a function that is given the request and returns the key, a str, int or UUID,
            or None. It replaces headers, form and query.
        :param scope: a function that is given the request and says who the key belongs to: a str,
            bytes, int or UUID, or None for the one anonymous scope. By default the Authorization
            and X-API-Key headers and the user in the session.
        :param fingerprint: a function that is given the request and says what makes it the same as
            its retry, a str or bytes; False to compare method and path alone. By default the whole
            request is compared.
        :param ignore_fields: names of form fields that are left out of the comparison, in addition
            to ``csrf_token``.
        :param store_if: a function that is given the response and says whether it is kept; see
            ``default_store_if``.
        :param dont_keep: statuses that are not kept, whatever ``store_if`` says.
        :param correctable: statuses after which a corrected request may use the key again: True,
            the default, for 400, 413, 415 and 422, False for none, or a collection of them.
        :param max_run: how long the lease of a running view is renewed, after which a second run
            may begin; None, the default, for as long as it runs.
        :param max_body: the size in bytes of the largest response body that is kept; 1 MiB by
            default.
        :param compress: the size in bytes from which response bodies are stored compressed; None,
            the default, for never.
        :param drop_headers: names of response headers that are not kept, in addition to those that
            never are.
        :param keep_headers: names of response headers that are kept although they are not by
            default.
        :param replay_session: names of the session's entries whose changes a replay makes again;
            ``("_flashes",)``, the messages of ``flash()``, by default.
        :param on_store_error: what happens while the store does not answer: ``"reject"``, the
            default, answers 503, ``"run"`` runs the view without protection, apart from that of
            its ``transaction``.
        :param min_replicas: how many of the store's replicas must have a claim before the view
            runs, so that a failover to one of them keeps it; 0 by default.
        :param transaction: the transaction of the view's own database, which commits the response
            together with the view's rows, such as ``SQLAlchemyTransaction(db)``. The view itself
            does not commit then. None by default.
        :returns: the view, protected; or a decorator, where only keywords are given.
        :raises SettingsError: on a wrong name, type or range, and on what cannot be protected.
        """
        check_overrides(overrides)
        if view is None:
            decorator = partial(_protect, overrides=overrides or NO_OVERRIDES)
            mark_decorator(decorator, decorator.keywords["overrides"])
            return decorator
        return _protect(view, overrides or NO_OVERRIDES)

    __doc__ = __call__.__doc__

    def exempt(self, view: Exempt) -> Exempt:
        """Leave a view, a class of views or a blueprint unprotected.

        On a view it stands directly below ``@app.route``, on a ``MethodView`` above the class or
        one of its methods; for a blueprint it is called: ``idempotent.exempt(blueprint)``. The
        decorator nearest to the view wins: a decorated view in an exempt blueprint is protected.

        :returns: the argument itself.
        :raises SettingsError: when it is given something else, or a decorated view.
        """
        check_exempt(view)
        mark(view, EXEMPT)
        clear_all()
        return view

    def protect(self, blueprint: AnyBlueprint, **overrides: Unpack[Overrides]) -> AnyBlueprint:
        """Protect every view of a blueprint, and of the blueprints nested in it.

        Call it before the blueprint is registered, which may happen several times and in several
        applications. The keywords are those of ``@idempotent``: a view's own win over them, and
        they win over the extension's.

        :returns: the blueprint.
        :raises SettingsError: on a wrong name, type or range; when it is given something else than
            a blueprint; when the blueprint was registered before, exempted, or protected with
            other keywords.
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


def _protect(view: Callable[..., Any], overrides: Mapping[str, Any]) -> Callable[..., Any]:
    check_view(view)
    is_async = iscoroutinefunction(view)
    function = _synchronous(view) if is_async else view

    @wraps(view)
    def protected(*args: Any, **kwargs: Any) -> Any:
        if is_async and _runs_in_event_loop():
            return _awaitable(protected)(*args, **kwargs)
        return _call(protected, overrides, partial(function, *args, **kwargs))

    mark_decorated(protected, view, overrides)
    if not has_request_context():
        first_requests.expect(view if isinstance(view, FunctionType) else protected)
    return protected


def _call(
    protected: Callable[..., Any], overrides: Mapping[str, Any], run: Callable[[], Any]
) -> Any:
    """Call a decorated function.

    :param protected: what the decorator made of it.
    :param run: runs the function itself.
    """
    context = _request_context(protected)
    app, request = context.app, context.request
    state: AppState = app.extensions.get(EXTENSION_KEY) or first_requests.prepare_late(app)
    call = state.protections.of_call(protected, overrides, request)
    # A call from within a decorated function returns to that function what the view returned.
    makes_response = call.makes_response and IN_DECORATED not in request.environ
    framework = call.framework if makes_response else None
    if framework is not None:
        run = framework.wrap(run)
    if call.settings is not None and state.may_carry_key(request, call.settings):
        part = None if call.view is protected else protected
        run = partial(handle, state, call.settings, request, run, part)
    if not makes_response:
        return run()
    response = app.make_response(_run_marked(request.environ, run))
    return response if framework is None else framework.hand_over(response)


def _request_context(function: Callable[..., Any]) -> RequestContext:
    try:
        return current_context()
    except RuntimeError:
        raise OutsideRequest(_NO_REQUEST.format(qualified_name(function))) from None


def _run_marked(environ: WSGIEnvironment, run: Callable[[], Any]) -> Any:
    environ[IN_DECORATED] = True
    try:
        return run()
    finally:
        environ.pop(IN_DECORATED, None)  # Another thread of the request may have removed it.


def _protect_views(setup: BlueprintSetupState) -> None:
    assert isinstance(setup.app, Flask)
    state_of(setup.app)
    protect_dispatching(setup.app)


def _synchronous(view: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: current_app.ensure_sync(view)(*args, **kwargs)


def _runs_in_event_loop() -> bool:
    # Flask calls an async view in a thread without an event loop, another async view calls it in
    # one.
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _awaitable(function: Callable[..., Any]) -> Callable[..., Any]:
    # asgiref comes with Flask's extra for async views. It runs the function in the request's own
    # thread, and what the function calls in turn in the event loop that awaits it.
    from asgiref.sync import sync_to_async

    return sync_to_async(function)


_NO_REQUEST = (
    "{} was called outside a request, where @idempotent can protect nothing: it looks for a key in "
    "the request. In a script or a task, call the undecorated function, its __wrapped__"
)
_REGISTERED_BEFORE = (
    "idempotent.protect comes too late for the blueprint {!r}, which has been registered. Call it "
    "before register_blueprint, where the blueprint is made"
)

#: The decorator; ``__call__``, ``exempt`` and ``protect`` document how it is used.
idempotent: Final = _Decorator()
mark_decorator(idempotent, NO_OVERRIDES)
