"""The handler: takes a request from its key to its response, for the decorator and the extension.

It runs where the view would: behind every ``before_request`` function, so behind authentication,
CSRF protection and rate limits, and inside ``after_request``, compression and session saving.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Response

from flask_idempotent import signals
from flask_idempotent._logging import logger
from flask_idempotent.engine.claims import Claim, ClaimRequest
from flask_idempotent.engine.outcomes import (
    FingerprintMismatch,
    Outcome,
    OutcomeUnknown,
    Replay,
    StillRunning,
    Unclaimed,
    Vacant,
)
from flask_idempotent.errors import RecordUnreadable, StoreError
from flask_idempotent.http.bodies import Body
from flask_idempotent.http.body_tracking import is_tracked
from flask_idempotent.web.answering import (
    in_progress,
    key_missing,
    key_reused,
    outcome_unknown,
    response_unreadable,
    steps_unreadable,
    store_unavailable,
)
from flask_idempotent.web.crashes import decide
from flask_idempotent.web.flask_compat import body_limit
from flask_idempotent.web.protected_request import (
    ProtectedRequest,
    RunView,
    claim_request_of_part,
    find_client_key,
    identify,
    identify_again,
)
from flask_idempotent.web.replaying import fetch_stored, replay_stored
from flask_idempotent.web.request_state import FirstCall, request_state, runs_already
from flask_idempotent.web.running import run_claimed
from flask_idempotent.web.sessions import SessionUse
from flask_idempotent.web.step_errors import answer_step_error
from flask_idempotent.web.transacted import consult_database, run_transacted, run_unclaimed

if TYPE_CHECKING:
    from flask import Request
    from flask.typing import ResponseReturnValue

    from flask_idempotent.settings import Settings
    from flask_idempotent.web.state import AppState


def handle(
    state: AppState,
    settings: Settings,
    request: Request,
    run_view: RunView,
    part: Callable[..., Any] | None = None,
) -> ResponseReturnValue:
    """Serve a request: run its view, or answer with what is stored for its key.

    :param state: the library's state in the application.
    :param settings: the settings of the view.
    :param request: the request.
    :param run_view: runs the view.
    :param part: the decorated function that is called, where it may be a part of the view; None
        for the view itself.
    :raises Problem: when the request cannot be served.
    """
    notes = request_state(request)
    if notes.is_running or _opens_socket(request):
        return run_view()
    if not is_tracked(request):
        # A view that nothing protects has called a decorated function, and may have read before.
        state.has_decorated_helpers = True
    body = Body(request, body_limit(state.app, request))
    current = ProtectedRequest(state, settings, request, body, run_view, part)
    first = notes.first_call
    if first is not None and first.has_same_identity(settings):
        # A decorator above calls again, or the view calls another decorated function.
        return _serve(current, identify_again(current, first))
    current.key = find_client_key(current)
    if current.key is None:
        return _serve_without_key(current)
    claim_request = identify(current)
    notes.first_call = FirstCall(settings, claim_request, current.scope)
    return _serve(current, claim_request)


def _opens_socket(request: Request) -> bool:
    # A WebSocket has no response that could be replayed. Other values of Upgrade change nothing:
    # some clients offer h2c with each POST.
    return request.method == "GET" and request.url_rule is not None and request.url_rule.websocket


def _serve_without_key(current: ProtectedRequest) -> ResponseReturnValue:
    if current.settings.requires_key(current.request.method):
        raise key_missing(current)
    current.body.hand_to_view()
    result = _run_without_claim(current)
    if current.body.stopped_because is not None:
        logger.warning(
            "%s ran without a key: its form was not searched to the end, because %s",
            current.request.endpoint, current.body.stopped_because,
        )  # fmt: skip
    return result


def _serve(current: ProtectedRequest, of_view: ClaimRequest) -> ResponseReturnValue:
    claim_request, claim = claim_request_of_part(current, of_view), None
    current.storage_key = claim_request.storage_key
    if runs_already(current.request.environ, claim_request.storage_key):
        return current.run_view()
    try:
        outcome = _claim(current, claim_request)
        claim = outcome if isinstance(outcome, Claim) else None
        if current.settings.transaction is not None:
            outcome = consult_database(current, claim_request, outcome)
        if isinstance(outcome, Claim):
            result = _run(current, outcome)
            return result if isinstance(result, Response) else _answer(current, result)
    except BaseException:
        # A worker's timeout, for example, may interrupt at any point, and nothing else would free
        # the key of a view that has not begun.
        if claim is not None and not claim.view_started:
            current.state.engine.abandon(claim)
        raise
    return _run_unclaimed(current) if outcome is None else _answer(current, outcome)


def _claim(current: ProtectedRequest, request: ClaimRequest) -> Outcome | None:
    """Claim the key; None where the store fails and the view runs anyway."""
    try:
        return current.state.engine.claim(request)
    except RecordUnreadable as error:
        raise response_unreadable(current, error) from None
    except StoreError as error:
        signals.send(signals.store_failed, current.app, operation="claim", error=error)
        if current.settings.on_store_error != "run":
            raise store_unavailable(current, error) from None
        missing = "protection" if current.settings.transaction is None else "the store"
        logger.warning("running without %s, the store failed to claim: %s", missing, error)
        return None


def _decide(current: ProtectedRequest, claim: Claim) -> Response | Outcome:
    try:
        return decide(current, claim)
    except RecordUnreadable as error:
        raise steps_unreadable(current, error) from None
    except StoreError as error:
        signals.send(signals.store_failed, current.app, operation="claim", error=error)
        raise store_unavailable(current, error) from None


def _run(current: ProtectedRequest, claim: Claim) -> Response | Unclaimed:
    current.session_use = SessionUse(current.settings)
    if claim.is_to_decide:
        decision = _decide(current, claim)
        if not isinstance(decision, Claim):
            return decision
    run = run_claimed if current.settings.transaction is None else run_transacted
    try:
        return run(current, claim)
    except Exception as error:
        if not claim.is_step_error(error):
            raise
        return answer_step_error(current, claim, error)


def _answer(current: ProtectedRequest, outcome: Unclaimed) -> ResponseReturnValue:
    match outcome:
        case Replay():
            return replay_stored(current, outcome)
        case StillRunning() | Vacant():
            raise in_progress(current, outcome)
        case OutcomeUnknown():
            raise outcome_unknown(current, outcome)
        case FingerprintMismatch() if current.request.method == "GET":
            # The client followed a redirect with the key of another request.
            return _run_unclaimed(current)
        case FingerprintMismatch():
            # In the anonymous scope the first request may have been anybody's.
            fetch = None if current.scope is None else partial(fetch_stored, current)
            raise key_reused(current, fetch)


def _run_unclaimed(current: ProtectedRequest) -> ResponseReturnValue:
    request_state(current.request).runs_unclaimed = True  # So no nested call claims it.
    return _run_without_claim(current)


def _run_without_claim(current: ProtectedRequest) -> ResponseReturnValue:
    if current.settings.transaction is None:
        return current.run_view()
    return run_unclaimed(current)
