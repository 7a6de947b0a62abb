"""Running: runs the view of a claimed request, and stores its response or releases the key."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from werkzeug.exceptions import HTTPException

from flask_idempotent import signals
from flask_idempotent._http_syntax import is_status
from flask_idempotent._logging import logger
from flask_idempotent._redact import redacted
from flask_idempotent.errors import LeaseLost
from flask_idempotent.http.responses import (
    capture,
    capture_body,
    should_store,
    status_of,
    varying_by_cookie,
)
from flask_idempotent.web.flask_compat import current_context, handle_user_exception
from flask_idempotent.web.request_state import note_claim, request_state
from flask_idempotent.web.templating import keep_out_of_caches

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from flask_idempotent.engine.claims import Claim
    from flask_idempotent.engine.engine import Engine
    from flask_idempotent.records import RunningRecord
    from flask_idempotent.web.protected_request import ProtectedRequest


class KeptParts(NamedTuple):
    """What is kept of a response, besides its body.

    :param status: the status code, or the whole status line.
    :param headers: the headers that a replay repeats.
    :param keeps_body: False where the response cannot be sent again.
    :param session: what a replay repeats of the session.
    """

    status: int | str
    headers: tuple[tuple[str, str], ...]
    keeps_body: bool = True
    session: bytes = b""


def run_claimed(current: ProtectedRequest, claim: Claim) -> Response:
    """Run the view of a claimed request; its response is stored when its body is known."""
    try:
        start_run(current, claim)
        response = _respond(current)
    except BaseException as error:
        release_failed(current, claim, error)
        raise
    claim.view_returned = True
    return settle(current, claim, response)


def start_run(current: ProtectedRequest, claim: Claim) -> None:
    """Report a claim, and prepare the request for its view."""
    note_claim(current.request, claim)
    if claim.dead_record is not None:
        _log_take_over(current, claim, claim.dead_record)
    signals.send(
        signals.claimed,
        current.app,
        key=current.key,
        storage_key=claim.storage_key,
        attempt=claim.attempt,
        owner=claim.owner,
        took_over=claim.dead_record is not None,
    )
    current.body.hand_to_view()
    claim.view_started = True


def release_failed(current: ProtectedRequest, claim: Claim, error: BaseException) -> None:
    """Release the claim of a view that an error has left, unless another run has its key."""
    if not isinstance(error, LeaseLost):
        current.state.engine.release(claim, "failed")


def _log_take_over(current: ProtectedRequest, claim: Claim, dead: RunningRecord) -> None:
    logger.warning(
        "take-over: key %s, record %s, attempt %d, endpoint %s; its owner died: "
        "%s, process %d, which began %.1f s ago",
        redacted(current.key), current.storage_key, claim.attempt, current.request.endpoint,
        dead.host, dead.pid, max(0.0, time.time() - dead.started),
    )  # fmt: skip


def _respond(current: ProtectedRequest) -> Response:
    try:
        value: Any = current.run_view()
    except Exception as error:
        value = handled(current, error)
    return make_response(current, value)


def handled(current: ProtectedRequest, error: Exception) -> Any:
    """Return what the application's error handlers make of an error: the view's answer.

    It is the error that is being handled.

    :raises Exception: what they leave unhandled, or raise themselves; errors of steps at once.
    """
    claim = request_state(current.request).claim
    if claim is not None and claim.is_step_error(error):
        raise error
    try:
        return handle_user_exception(current_context(), error)
    except Exception as unhandled:
        current.state.mark_handled(unhandled)
        raise


def make_response(current: ProtectedRequest, value: Any) -> Response:
    """Make a response of what a view or an error handler returned."""
    if isinstance(value, HTTPException):
        # Flask would run it as a WSGI application, whose response looks like a stream.
        value = value.get_response(current.request.environ)
    # Before the response is stored, so that replays of a page with a key stay out of caches too.
    return keep_out_of_caches(current.request, current.app.make_response(value))


def settle(
    current: ProtectedRequest, claim: Claim, response: Response, *, always_kept: bool = False
) -> Response:
    """Complete a claim with a response, or release it where the response is not kept.

    :param always_kept: keep it, whatever ``store_if`` says of it.
    """
    engine = current.state.engine
    try:
        reason = None if always_kept else why_not_kept(current, claim, response)
        if reason is not None:
            engine.release(claim, reason)
        else:
            store_response(current, claim, response, kept_parts(current, response))
    except BaseException:
        # The view has run: its key must neither stay in progress nor become free again.
        engine.complete_later(claim, 500, (), None)
        raise
    return response


def why_not_kept(current: ProtectedRequest, claim: Claim, response: Response) -> str | None:
    """Return the reason for which a response is not kept; None where it is.

    :returns: a reason of the signal ``released``.
    """
    if claim.released_by_view:
        return "by-view"
    return None if should_store(response, current.settings) else "not-stored"


def kept_parts(current: ProtectedRequest, response: Response) -> KeptParts:
    """Return what is kept of a response, besides its body."""
    settings, session_use = current.settings, current.session_use
    assert session_use is not None, "it runs under a claim"
    try:
        status, headers = capture(response, settings)
    except ValueError as error:
        # The view has run: its retries can only learn that its response was not kept.
        logger.error(
            "the response of %s is not kept, as it could not be sent again: record %s: %s",
            current.request.endpoint, current.storage_key, error,
        )  # fmt: skip
        status = status_of(response)
        return KeptParts(status if is_status(status) else 500, (), keeps_body=False)
    if session_use.adds_vary and "vary" not in settings.drop_headers:
        # Flask adds it to the first response later, and would not add it to a replay.
        headers = varying_by_cookie(headers)
    return KeptParts(status, headers, session=session_use.changes())


def store_response(
    current: ProtectedRequest, claim: Claim, response: Response, parts: KeptParts
) -> None:
    """Complete a claim with a response when its body is known: now, or when its stream ends."""
    engine, settings = current.state.engine, current.settings
    without_body = (claim, parts.status, parts.headers)
    if not parts.keeps_body:
        _complete(engine, *without_body, None)
        return
    capture_body(
        response,
        settings.max_body,
        partial(_complete, engine, *without_body, session=parts.session),
        partial(engine.complete_later, *without_body, None),
    )


def _complete(
    engine: Engine,
    claim: Claim,
    status: int | str,
    headers: tuple[tuple[str, str], ...],
    body: bytes | None,
    session: bytes = b"",
) -> None:
    if claim.released_by_view:
        # The view gave up the key while its response streamed.
        engine.release(claim, "by-view")
        return
    try:
        engine.complete(claim, status, headers, body, session)
    except Exception:
        # The view has run: its key must neither stay in progress nor become free again.
        logger.exception("the response cannot be stored: record %s", claim.storage_key)
        engine.complete(claim, 500, (), None)
