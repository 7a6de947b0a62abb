"""``step()``: a part of a view whose result a later run returns and does not repeat."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from flask import has_request_context

from flask_idempotent.web.flask_compat import current_context
from flask_idempotent.web.request_state import request_state
from flask_idempotent.web.state import EXTENSION_KEY

if TYPE_CHECKING:
    from flask_idempotent.engine.steps import Steps

Result = TypeVar("Result")


def step(
    name: str, function: Callable[..., Result], /, *args: Any, once: bool = False, **kwargs: Any
) -> Result:
    """Call a function, or return what it returned in an earlier run of the view.

    A view that dies or fails between its steps goes on there when the request is sent again::

        @app.post("/orders")
        @idempotent(required=True)
        def create_order():
            stock = step("reserve", reserve, request.json["cart"])
            payment = step("charge", charge, stock["total"], once=True)
            return {"order": payment["order"]}, 201

    Results are kept in the store until the view has answered, beyond ``current_claim.release()``
    too. They belong to the request's payload: another one begins without them.

    Where ``current_claim`` is false, the function is just called: without a key or outside of a
    request, in a thread without the request's context, after the response was stored. A streamed
    response may have steps inside of ``stream_with_context``, and a step's function steps of its
    own. A result stays although the view's ``transaction`` is rolled back, so a step does not write
    into that database.

    :param name: names the step: the same in each run, and another for each step of a run.
    :param function: what the step does. Where it is async, await the step.
    :param args: its arguments, as are ``kwargs``.
    :param once: True for a function that must not be called again while it is unknown whether an
        earlier call took effect, because the process died or the function raised an exception.
        Then ``on_crash`` is asked; where that is not a function, the key is held.
    :returns: what the function returned, now or in an earlier run: None, or a bool, int, float,
        str, bytes, list, dict, tuple, datetime, date, time, timedelta, Decimal or UUID.
    :raises StepUnknown: when a step with ``once`` began in an earlier run and is not known to have
        ended.
    :raises LeaseLost: when another run may have the key.
    :raises StoreError: when the store does not answer, before the function is called. The request
        is answered 503 and may be sent again.
    :raises RecordUnreadable: when what the store has of the step is damaged. The response is 503.
    :raises TypeError: when the function returns something else; the result is not kept.
    :raises ValueError: when the name is empty, has lone surrogates, or was used in this run before.
    :raises RuntimeError: in a function that is given as ``on_crash``.
    """
    _check(name, function)
    run: Callable[..., Any] = _run_async if inspect.iscoroutinefunction(function) else _run
    result: Result = run(name, partial(function, *args, **kwargs), once=once)
    return result


def _run(name: str, call: Callable[[], Any], *, once: bool) -> Any:
    steps = _steps_of_run()
    if steps is not None:
        recorded = steps.begin(name, once=once)
        if recorded is not None:
            return recorded.value
    result = call()
    if inspect.isawaitable(result):
        raise _awaitable(name, result)
    if steps is not None:
        steps.end(name, result)
    return result


async def _run_async(name: str, call: Callable[[], Awaitable[Any]], *, once: bool) -> Any:
    steps = _steps_of_run()
    if steps is None:
        return await call()
    recorded = steps.begin(name, once=once)
    if recorded is not None:
        return recorded.value
    result = await call()
    steps.end(name, result)
    return result


def _check(name: object, function: object) -> None:
    if not isinstance(name, str):
        raise TypeError(_WRONG_NAME.format(name))
    if not name or not _is_unicode(name):
        raise ValueError(_WRONG_NAME.format(name))
    if not callable(function):
        raise TypeError(_NOT_CALLABLE.format(name, function))


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # It contains a lone surrogate.
        return False
    return True


def _awaitable(name: str, result: Any) -> TypeError:
    if inspect.iscoroutine(result):
        result.close()  # Else Python warns that nobody has awaited it.
    return TypeError(_AWAITABLE.format(name))


def _steps_of_run() -> Steps | None:
    """The steps of the run of the current request; None where nothing is claimed."""
    if not has_request_context():
        return None
    context = current_context()
    claim = request_state(context.request).claim
    if claim is None or claim.settled or not claim.is_in_store:
        return None
    if claim.is_to_decide:
        raise RuntimeError(_NOT_HERE)
    steps: Steps = context.app.extensions[EXTENSION_KEY].engine.steps_of(claim)
    return steps


_WRONG_NAME = (
    "step() takes a name that is not empty and has no lone surrogates, a str such as 'charge', "
    "not {!r}"
)
_NOT_CALLABLE = (
    "step({!r}, ...) takes the function itself and its arguments, as in step('charge', charge, "
    "amount), not {!r}"
)
_AWAITABLE = (
    "the function of the step {!r} returned something to await, which cannot be recorded. Give "
    "step() an async function, and await the step: await step(...)"
)
_NOT_HERE = (
    "step() was called by a function given as on_crash, which decides whether a run with steps of "
    "its own begins. Call the service itself, with current_claim.key_for(), or return 'rerun'"
)
