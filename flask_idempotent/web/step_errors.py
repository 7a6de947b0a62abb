"""Errors of steps: what a request is answered when one leaves its view.

The application's error handlers are not asked about them. What they answer would be stored as the
response of the view, which has not come to its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_idempotent import signals
from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.following import follow
from flask_idempotent.engine.outcomes import (
    FingerprintMismatch,
    OutcomeUnknown,
    Unclaimed,
    Vacant,
)
from flask_idempotent.errors import LeaseLost, RecordUnreadable, StepUnknown, StoreError
from flask_idempotent.web.answering import (
    outcome_unknown,
    response_unreadable,
    step_store_unavailable,
    steps_unreadable,
    store_unavailable,
)
from flask_idempotent.web.transacted import consult_database

if TYPE_CHECKING:
    from flask_idempotent.web.protected_request import ProtectedRequest


def answer_step_error(current: ProtectedRequest, claim: Claim, error: Exception) -> Unclaimed:
    """Answer a request whose view was left by an error of one of its steps.

    :returns: what follows where another run has the key.
    :raises Problem: where none has.
    """
    match error:
        case LeaseLost():
            return _follow(current, claim)
        case StepUnknown():
            # A function is asked by the next request, which may come at once.
            lease_left = 0.0 if claim.request.settings.decides else None
            raise outcome_unknown(current, OutcomeUnknown(lease_left)) from None
        case RecordUnreadable():
            raise steps_unreadable(current, error) from None
        case StoreError():
            signals.send(signals.store_failed, current.app, operation="step", error=error)
            raise step_store_unavailable(current, error) from None
    raise error


def _follow(current: ProtectedRequest, claim: Claim) -> Unclaimed:
    try:
        outcome = follow(current.state.engine, claim)
    except RecordUnreadable as error:
        raise response_unreadable(current, error) from None
    except StoreError as error:
        raise store_unavailable(current, error) from None
    if current.settings.transaction is not None:
        outcome = consult_database(current, claim.request, outcome)
    assert not isinstance(outcome, Claim), "a follower never claims"
    if isinstance(outcome, FingerprintMismatch) and current.request.method == "GET":
        # It would be served without its key, so its view would run a second time.
        return Vacant()
    return outcome
