"""Answering: the problems that a request is answered with when it is not served.

Outcomes become HTTP here. Each function returns a problem, to be raised, which was logged and
signalled.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask_idempotent import problems, signals
from flask_idempotent._logging import logger
from flask_idempotent._redact import redacted
from flask_idempotent.problems import Problem
from flask_idempotent.web.problem_pages import prepare_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response

    from flask_idempotent.engine.outcomes import OutcomeUnknown, StillRunning, Vacant
    from flask_idempotent.errors import DatabaseUnavailable, RecordUnreadable, StoreError
    from flask_idempotent.web.protected_request import ProtectedRequest


def reject(current: ProtectedRequest, problem: Problem) -> Problem:
    """Complete a problem with what is known of the request, and report it."""
    problem.base = current.settings.problem_base
    problem.key = current.key
    prepare_page(problem, current.request, current.settings)
    logger.info(
        "problem %s: key %s, record %s, endpoint %s, instance %s",
        problem.slug, redacted(problem.key), current.storage_key or "-", current.request.endpoint,
        problem.instance,
    )  # fmt: skip
    signals.send(
        signals.rejected,
        current.app,
        key=problem.key,
        storage_key=current.storage_key,
        problem=problem.slug,
        status=problem.code,
        instance=problem.instance,
    )
    return problem


def key_missing(current: ProtectedRequest) -> Problem:
    """The view requires a key and the request has none."""
    settings = current.settings
    where = f", in the header {settings.headers[0]}" if settings.key is None else ""
    return reject(current, problems.KeyMissing(_MISSING.format(where)))


def body_incomplete(current: ProtectedRequest) -> Problem:
    """The request's body broke off."""
    return reject(current, problems.BodyIncomplete(_INCOMPLETE))


def body_unavailable(current: ProtectedRequest) -> Problem:
    """Bytes of the request's body were lost on this server."""
    return reject(current, problems.BodyUnavailable(_UNAVAILABLE))


def in_progress(current: ProtectedRequest, outcome: StillRunning | Vacant) -> Problem:
    """Another request with the key is still running."""
    kind = problems.IN_PROGRESS[current.settings.busy_status]
    retry_after = outcome.retry_after(time.time())
    return reject(current, kind(_IN_PROGRESS, retry_after=retry_after))


def outcome_unknown(current: ProtectedRequest, outcome: OutcomeUnknown) -> Problem:
    """The process of the first request died, and the view is not run again, or not yet."""
    retry_after = outcome.retry_after
    if retry_after is None:
        return reject(current, problems.OutcomeUnknown(_UNKNOWN))
    problem = problems.OutcomeUnknown(_UNKNOWN_YET, retry_after=retry_after)
    problem.retryable = True
    problem.form_detail = _UNKNOWN_YET_OF_FORM
    return reject(current, problem)


def key_reused(
    current: ProtectedRequest, fetch_stored: Callable[[], Response | None] | None
) -> Problem:
    """The key belongs to another request.

    :param fetch_stored: fetches the response of that request; None where it may not be shown.
    """
    problem = problems.KeyReused(_REUSED)
    problem.fetch_stored = fetch_stored
    return reject(current, problem)


def response_not_kept(current: ProtectedRequest) -> Problem:
    """The first request ran, but its response was not kept."""
    return reject(current, problems.ResponseNotKept(_NOT_KEPT))


def response_unreadable(current: ProtectedRequest, error: RecordUnreadable) -> Problem:
    """What the store has for the key cannot be read."""
    logger.error("record %s cannot be read: %s", current.storage_key, error)
    return reject(current, problems.StoredResponseUnreadable(_UNREADABLE))


def store_unavailable(current: ProtectedRequest, error: StoreError) -> Problem:
    """The store does not say whether this request ran before."""
    logger.error("the store failed to claim: %s", error)
    return reject(current, problems.TemporarilyUnavailable(_NO_STORE, retry_after=1))


def steps_unreadable(current: ProtectedRequest, error: RecordUnreadable) -> Problem:
    """What the store has of the steps of an earlier run cannot be read."""
    logger.error("the steps of record %s cannot be read: %s", current.storage_key, error)
    return reject(current, problems.StoredResponseUnreadable(_STEPS_UNREADABLE))


def step_store_unavailable(current: ProtectedRequest, error: StoreError) -> Problem:
    """The view has begun, and the store does not let its next step begin."""
    logger.error("the store failed to begin a step: record %s: %s", current.storage_key, error)
    problem = problems.TemporarilyUnavailable(_NO_STEP, retry_after=1)
    problem.form_detail = _NO_STEP_OF_FORM
    return reject(current, problem)


def database_unavailable(current: ProtectedRequest, error: DatabaseUnavailable) -> Problem:
    """The view's own database does not say whether this request ran before."""
    logger.error("the database of %s does not answer: %s", current.request.endpoint, error)
    return reject(current, problems.TemporarilyUnavailable(_NO_STORE, retry_after=1))


def commit_unknown(current: ProtectedRequest, error: DatabaseUnavailable) -> Problem:
    """The view ran, and its own database does not say whether it was committed."""
    logger.error("the database of %s does not answer: %s", current.request.endpoint, error)
    problem = problems.TemporarilyUnavailable(_NO_COMMIT, retry_after=1)
    problem.form_detail = _NO_COMMIT_OF_FORM
    return reject(current, problem)


_MISSING = (
    "This operation needs an idempotency key. Send a new random one, such as a UUID{}, and the "
    "same one with every retry."
)
_IN_PROGRESS = (
    "The first request with this idempotency key is still being processed. Send the same request "
    "again after the time in Retry-After to get its response."
)
_REUSED = (
    "This idempotency key was used for another request. Send a new operation with a new key, or "
    "a retry exactly as it was sent first."
)
_NOT_KEPT = (
    "The first request with this idempotency key ran, but its response was not kept: it was too "
    "large, broke off or cannot be repeated. It will not run again; look up its result another way."
)
_UNKNOWN = (
    "The first request with this idempotency key was interrupted and it is not known how far it "
    "got. It will not run again; look up its result before sending a new key."
)
_UNKNOWN_YET = (
    "The first request with this idempotency key was interrupted and it is not known yet how far "
    "it got. Send the same request again after the time in Retry-After: it is looked up again then."
)
_UNKNOWN_YET_OF_FORM = (
    "It was interrupted, and it is not known yet whether it was processed. Wait a moment, then "
    "reload this page. It will not be processed twice."
)
_INCOMPLETE = "The request's body ended before its announced length. Send the request again."
_UNAVAILABLE = (
    "A part of the request's body was lost on this server before it could be compared, so the "
    "request was not run. Ask the operators of this service."
)
_NO_STORE = (
    "It cannot be checked now whether this request ran before, so it was not run. Send it again "
    "with the same idempotency key after the time in Retry-After."
)
_NO_COMMIT = (
    "It cannot be checked now whether this request was carried out. Send it again with the same "
    "idempotency key after the time in Retry-After: it is carried out once."
)
_NO_COMMIT_OF_FORM = (
    "It is not known yet whether it was processed. Wait a moment, then reload this page to send "
    "the form again. It will not be processed twice."
)
_NO_STEP = (
    "This request was interrupted, because it could not be recorded how far it has got. Send it "
    "again with the same idempotency key after the time in Retry-After: it goes on from there."
)
_NO_STEP_OF_FORM = (
    "It was interrupted. Wait a moment, then reload this page to send the form again. What was "
    "done is not done twice."
)
_STEPS_UNREADABLE = (
    "What is stored of an earlier run of this request cannot be read, so it was not run again. "
    "Look up its result another way, or ask the operators of this service."
)
_UNREADABLE = (
    "What is stored for this idempotency key cannot be read, so the request was not run. Look up "
    "its result another way, or ask the operators of this service."
)
