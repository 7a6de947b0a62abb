"""Problems: the library's responses to requests that it does not serve.

Each is a Werkzeug exception, so an application's own ``errorhandler`` wins: one for the class, for
the Werkzeug class above it, or for the status. Without one the response is
``application/problem+json`` (RFC 9457), or a small HTML page where the client prefers HTML. The
page is the template ``idempotent/problem.html``, which an application may replace.

* Problem
    * KeyMissing (400)
    * KeyInvalid (400)
    * BodyIncomplete (400)
    * InProgress, whose class depends on ``busy_status``
        * RequestInProgress (409)
        * InProgressTooEarly (425)
        * InProgressTooManyRequests (429)
        * InProgressUnavailable (503)
    * ResponseNotKept (409)
    * OutcomeUnknown (409)
    * KeyReused (422)
    * BodyUnavailable (500)
    * TemporarilyUnavailable (503)
    * StoredResponseUnreadable (503)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from werkzeug.exceptions import (
    BadRequest,
    Conflict,
    InternalServerError,
    ServiceUnavailable,
    TooManyRequests,
    UnprocessableEntity,
)

from flask_idempotent._problem_base import Problem as Problem

if TYPE_CHECKING:
    from werkzeug.wrappers import Response


class KeyMissing(Problem, BadRequest):
    """The view requires a key and the request has none."""

    slug = "key-missing"
    title = "Idempotency key missing"
    form_title = "This form cannot be sent"
    form_detail = (
        "It lacks a part that keeps it from being sent twice. Go back, reload the page "
        "and send the form again."
    )


class KeyInvalid(Problem, BadRequest):
    """The key cannot be read, or two sources of the request disagree about it."""

    slug = "key-invalid"
    title = "Idempotency key invalid"
    form_title = "This form cannot be sent"
    form_detail = (
        "A part of it that keeps it from being sent twice was changed. Go back, reload "
        "the page and send the form again."
    )


class BodyIncomplete(Problem, BadRequest):
    """The request's body broke off before its end."""

    slug = "body-incomplete"
    title = "Request body incomplete"
    form_title = "This form did not arrive whole"
    form_detail = "The connection broke off, and nothing was done. Go back and send the form again."


class InProgress(Problem):
    """The first request with this key is still being processed.

    A handler for this class gets the problem with each of its statuses.
    """

    slug = "in-progress"
    title = "Request in progress"
    form_title = "This form is still being processed"
    form_detail = (
        "It was sent before, and its answer is not ready yet. Wait a moment, then reload "
        "this page to see it. The form will not be processed twice."
    )
    retryable = True


class RequestInProgress(InProgress, Conflict):
    """The first request with this key is still being processed."""


class InProgressTooEarly(InProgress):
    """The first request with this key is still being processed."""

    #: Werkzeug has no class for this status (RFC 8470, 5.2).
    code = 425


class InProgressTooManyRequests(InProgress, TooManyRequests):
    """The first request with this key is still being processed."""


class InProgressUnavailable(InProgress, ServiceUnavailable):
    """The first request with this key is still being processed."""


class ResponseNotKept(Problem, Conflict):
    """The first request finished, but its response was too large or broke off."""

    slug = "response-not-kept"
    title = "Response not kept"
    form_title = "This form was sent before"
    form_detail = (
        "It was processed, but its answer cannot be shown a second time. Look for the "
        "result, such as your order, before you fill in the form again."
    )


class OutcomeUnknown(Problem, Conflict):
    """The first request's process died and the view must not be run twice."""

    # It is retryable while a function of the application has not decided what follows.

    slug = "outcome-unknown"
    title = "Outcome unknown"
    form_title = "This form was sent before"
    form_detail = (
        "It was interrupted, and it is not known whether it was processed. Look for the "
        "result, such as your order, or ask us, before you fill in the form again."
    )


class KeyReused(Problem, UnprocessableEntity):
    """The key belongs to another request: another method, path or payload."""

    slug = "key-reused"
    title = "Idempotency key reused"
    form_title = "This form was sent before"
    form_detail = (
        "It was sent with other contents than now, and these changes were not processed. "
        "Look for the result of the first time; to send the changes too, go back, reload "
        "the page and fill in the form again."
    )

    #: Fetches the response of the first request; None where this caller may not see it.
    fetch_stored: Callable[[], Response | None] | None = None

    @property
    def stored(self) -> Response | None:
        """The response of the first request with the key, fetched from the store at each access.

        An error handler may use it to lead a person on, such as to the order that was placed. It is
        None while the first request runs, where its response was not kept or cannot be read now,
        and in the anonymous scope, where it may be somebody else's.
        """
        return None if self.fetch_stored is None else self.fetch_stored()


class BodyUnavailable(Problem, InternalServerError):
    """Bytes of the request's body were lost on the server before they could be compared."""

    slug = "body-unavailable"
    title = "Request body unavailable"
    form_title = "This form cannot be processed"
    form_detail = (
        "This is a fault of this site, not yours, and nothing was done. Please tell us about it."
    )


class TemporarilyUnavailable(Problem, ServiceUnavailable):
    """The store, or the view's own database, cannot be asked whether this request ran before."""

    slug = "store-unavailable"
    title = "Temporarily unavailable"
    form_title = "This form cannot be processed right now"
    form_detail = (
        "Nothing was done. Wait a moment, then reload this page to send the form again. "
        "It will not be processed twice."
    )
    retryable = True


class StoredResponseUnreadable(Problem, ServiceUnavailable):
    """The record of the first request with this key cannot be read."""

    slug = "record-unreadable"
    title = "Stored response unreadable"
    form_title = "This form was sent before"
    form_detail = (
        "Its answer cannot be shown. Look for the result, such as your order, or ask us, "
        "before you fill in the form again."
    )


#: The classes of ``in-progress`` by their status, the values of ``busy_status``.
IN_PROGRESS: Mapping[int, type[InProgress]] = {
    409: RequestInProgress,
    425: InProgressTooEarly,
    429: InProgressTooManyRequests,
    503: InProgressUnavailable,
}
#: One class for each type of problem, in the order of their statuses: ``in-progress`` with 409.
ALL: Iterable[type[Problem]] = (
    KeyMissing,
    KeyInvalid,
    BodyIncomplete,
    RequestInProgress,
    ResponseNotKept,
    OutcomeUnknown,
    KeyReused,
    BodyUnavailable,
    TemporarilyUnavailable,
    StoredResponseUnreadable,
)
