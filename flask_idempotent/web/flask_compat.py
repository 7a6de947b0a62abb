"""What the library uses of Flask that is private, undocumented or differs between its versions.

No other module touches these names. What differs between versions is decided here, once, when this
module is imported. Werkzeug's are in ``http/werkzeug_compat.py``.

Flask 3.2 makes one context of the request's and the application's, and gives it as an argument to
the methods that handle a request. Flask 3.1.3 marks a session as accessed when it is read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any, Protocol

import flask.ctx
import flask.globals
from flask import Flask, Request, current_app, request

if TYPE_CHECKING:
    from flask.sessions import SessionMixin
    from flask.typing import ResponseReturnValue
    from werkzeug.exceptions import HTTPException

#: A method of an application that Flask calls with its context, from 3.2 on, or with nothing.
Dispatch = Callable[..., Any]


class RequestContext(Protocol):
    """What the library reads of a request's context."""

    @property
    def app(self) -> Flask: ...

    @property
    def request(self) -> Request: ...


# Where request_ctx is deprecated, getting it warns.
_MERGED = "request_ctx" not in vars(flask.globals)
_context_class: Any = flask.ctx.AppContext if _MERGED else flask.ctx.RequestContext
_context: Any = flask.globals.app_ctx if _MERGED else flask.globals.request_ctx


def _merged_context() -> RequestContext:
    context: RequestContext = _context._get_current_object()
    context.request  # noqa: B018 - raises RuntimeError in an application's context
    return context


#: The context of the running request; a RuntimeError outside a request.
current_context: Callable[[], RequestContext] = (
    _merged_context if _MERGED else _context._get_current_object
)
#: The running request itself, which the proxy ``flask.request`` stands for.
current_request: Callable[[], Request] = request._get_current_object  # type: ignore[attr-defined]
#: The running application itself, which the proxy ``flask.current_app`` stands for.
current_application: Callable[[], Flask] = current_app._get_current_object  # type: ignore[attr-defined]


def without_proxy(app: Any) -> Any:
    """The object that a proxy such as ``flask.current_app`` stands for, or the object itself."""
    resolve = getattr(app, "_get_current_object", None)
    return app if resolve is None else resolve()


def _session_getter() -> Callable[[RequestContext], SessionMixin]:
    if hasattr(_context_class, "_get_session"):  # from 3.2 on
        return methodcaller("_get_session")
    # Until 3.1.2 the public attribute is a plain one, which marks nothing.
    return attrgetter("_session" if hasattr(_context_class, "session") else "session")


#: The session of a context, which this does not mark as accessed, unlike ``flask.session``.
#: Before Flask 3.1.3 reading one of its entries still does.
session_of: Callable[[RequestContext], SessionMixin] = _session_getter()


_max_content_length = Request.max_content_length


def body_limit(app: Flask, request: Request) -> int | None:
    """How many bytes the body of a request may have, as ``request.max_content_length`` says.

    Flask's property looks for the current application, which takes 1.2 us more; a replay takes 120.
    """
    untouched = type(request).max_content_length is _max_content_length
    if untouched and "_max_content_length" not in vars(request):
        limit: int | None = app.config["MAX_CONTENT_LENGTH"]
        return limit
    return request.max_content_length


_HANDLERS_TAKE_CONTEXT = "ctx" in inspect.signature(Flask.handle_user_exception).parameters


def handle_user_exception(
    context: RequestContext, error: Exception
) -> HTTPException | ResponseReturnValue:
    """Let the application's error handlers answer an error of a view that is being handled.

    :raises Exception: the error itself, where no handler takes it, or what a handler raises.
    """
    arguments: tuple[Any, ...] = (context, error) if _HANDLERS_TAKE_CONTEXT else (error,)
    return context.app.handle_user_exception(*arguments)


def wrap_user_exception_handling(
    app: Flask, around: Callable[[Exception, Callable[[], Any]], Any]
) -> None:
    """Put a function around the application's handling of errors.

    :param around: is given an error, and what handles it.
    """
    handle = app.handle_user_exception

    def handle_around(*arguments: Any) -> Any:
        return around(arguments[-1], partial(handle, *arguments))

    app.handle_user_exception = handle_around  # type: ignore[assignment,method-assign]


def wrap_full_dispatch_request(app: Flask, wrap: Callable[[Dispatch], Dispatch]) -> None:
    """Replace what serves a request, from its ``before_request`` functions on.

    :param wrap: is given what serves it now; returns what serves it from now on, which must pass
        on all of its arguments.
    """
    app.full_dispatch_request = wrap(app.full_dispatch_request)  # type: ignore[method-assign]


def wrap_dispatch_request(app: Flask, wrap: Callable[[Dispatch], Dispatch]) -> None:
    """Replace what calls a request's view, behind its ``before_request`` functions.

    :param wrap: as for ``wrap_full_dispatch_request``.
    """
    app.dispatch_request = wrap(app.dispatch_request)  # type: ignore[method-assign]
