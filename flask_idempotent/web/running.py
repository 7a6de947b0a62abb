"""Running: runs the view of a claimed request, and stores its response or releases the key."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException

from flask_idempotent import signals
from flask_idempotent._http_syntax import is_status
from flask_idempotent._logging import logger
from flask_idempotent._redact import redacted
from flask_idempotent.http.responses import (
    capture,
    capture_body,
    should_store,
    status_of,
    varying_by_cookie,
)
from flask_idempotent.web.flask_compat import current_context, handle_user_exception
from flask_idempotent.web.request_state import note_claim
from flask_idempotent.web.sessions import was_accessed
from flask_idempotent.web.templating import keep_out_of_caches

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from flask_idempotent.engine.claims import Claim
    from flask_idempotent.engine.engine import Engine
    from flask_idempotent.records import RunningRecord
    from flask_idempotent.web.protected_request import ProtectedRequest


def run_claimed(current: ProtectedRequest, claim: Claim) -> Response:
    """Run the view of a claimed request; its response is stored when its body is known."""
    engine = current.state.engine
    note_claim(current.request, claim)
    accessed_before = was_accessed()
    try:
        _report_claim(current, claim)
        current.body.hand_to_view()
        claim.view_started = True
        response = _respond(current)
    except BaseException:
        engine.release(claim, "failed")
        raise
    claim.view_returned = True
    try:
        _settle(current, claim, response, uses_session=was_accessed() and not accessed_before)
    except BaseException:
        # The view has run: its key must neither stay in progress nor become free again.
        engine.complete_later(claim, 500, (), None)
        raise
    return response


def _report_claim(current: ProtectedRequest, claim: Claim) -> None:
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
        # What the application's error handlers make of an error is the view's answer. What they
        # leave unhandled, or raise themselves, is raised from here.
        try:
            value = handle_user_exception(current_context(), error)
        except Exception as unhandled:
            current.state.mark_handled(unhandled)
            raise
    if isinstance(value, HTTPException):
        # Flask would run it as a WSGI application, whose answer looks like a stream.
        value = value.get_response(current.request.environ)
    # Before the response is stored, so that replays of a page with a key stay out of caches too.
    return keep_out_of_caches(current.request, current.app.make_response(value))


def _settle(
    current: ProtectedRequest, claim: Claim, response: Response, *, uses_session: bool
) -> None:
    engine, settings = current.state.engine, current.settings
    if claim.released_by_view:
        engine.release(claim, "by-view")
        return
    if not should_store(response, settings):
        engine.release(claim, "not-stored")
        return
    try:
        status, headers = capture(response, settings)
    except ValueError as error:
        _complete_without_body(current, claim, response, error)
        return
    if uses_session and "vary" not in settings.drop_headers:
        # Flask adds it to the first response later, and would not add it to a replay.
        headers = varying_by_cookie(headers)
    without_body = (claim, status, headers)
    capture_body(
        response,
        settings.max_body,
        partial(_complete, engine, *without_body),
        partial(engine.complete_later, *without_body, None),
    )


def _complete_without_body(
    current: ProtectedRequest, claim: Claim, response: Response, error: ValueError
) -> None:
    # The view has run: its retries can only learn that its response was not kept.
    logger.error(
        "the response of %s is not kept, as it could not be sent again: record %s: %s",
        current.request.endpoint, claim.storage_key, error,
    )  # fmt: skip
    status = status_of(response)
    _complete(current.state.engine, claim, status if is_status(status) else 500, (), None)


def _complete(
    engine: Engine,
    claim: Claim,
    status: int | str,
    headers: tuple[tuple[str, str], ...],
    body: bytes | None,
) -> None:
    if claim.released_by_view:
        # The view gave up the key while its response streamed.
        engine.release(claim, "by-view")
        return
    try:
        engine.complete(claim, status, headers, body)
    except Exception:
        # The view has run: its key must neither stay in progress nor become free again.
        logger.exception("the response cannot be stored: record %s", claim.storage_key)
        engine.complete(claim, 500, (), None)
