"""Problems: the library's answers to requests that it does not serve.

Each is a Werkzeug exception, so an application's own ``errorhandler`` wins: one for the class, for
the Werkzeug class above it, or for the status. Without one the answer is
``application/problem+json`` (RFC 9457), or a small HTML page where the client prefers HTML. The
page is the template ``idempotent/problem.html``, which an application may replace.

* Problem
    * KeyMissing (400)
    * KeyInvalid (400)
    * BodyIncomplete (400)
    * RequestInProgress (409)
    * ResponseNotKept (409)
    * OutcomeUnknown (409)
    * KeyReused (422)
    * BodyUnavailable (500)
    * TemporarilyUnavailable (503)
    * StoredResponseUnreadable (503)
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from jinja2 import Environment, PackageLoader
from werkzeug.exceptions import (
    BadRequest,
    Conflict,
    HTTPException,
    InternalServerError,
    ServiceUnavailable,
    UnprocessableEntity,
)
from werkzeug.wrappers import Request

if TYPE_CHECKING:
    from datetime import datetime

    from _typeshed.wsgi import WSGIEnvironment
    from jinja2 import Template
    from werkzeug.wrappers import Response

PROBLEM_BASE = "urn:flask-idempotent:problem:"
#: The template of the HTML page, in the application and in this package.
TEMPLATE = "idempotent/problem.html"


class Problem(HTTPException):
    """Base of every problem.

    :param detail: what was wrong, what was expected and how to fix it.
    :param key: the client's own key, where there was one that could be read.
    :param base: what the problem's ``type`` begins with.
    :param retry_after: seconds after which the client may try again.
    """

    #: Last part of the problem's ``type``. It does not change between releases.
    slug: ClassVar[str]
    #: Short, and the same for every problem of this type.
    title: ClassVar[str]
    #: Heading of the page for a person who sent a form.
    form_title: ClassVar[str]
    #: Text of that page: what happened, and what to do now.
    form_detail: str
    #: Whether the same request may succeed later.
    retryable: bool = False

    #: Whether a person sent the request: a form without a key in its headers.
    from_form: bool = False
    #: Path of the page with the form, where the browser names one of this site.
    back: str | None = None
    #: Renders the page with the application's templates; None for this package's template.
    render: Callable[[Problem], str] | None = None

    def __init__(
        self,
        detail: str | None = None,
        *,
        key: str | None = None,
        base: str = PROBLEM_BASE,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.key = key
        self.base = base
        # The annotation is that of the same attribute of Werkzeug's ServiceUnavailable.
        self.retry_after: datetime | int | None = retry_after
        self.instance = uuid.uuid4().urn

    @property
    def name(self) -> str:
        """The title. Other Werkzeug exceptions have the reason phrase here."""
        return self.title

    @property
    def type(self) -> str:
        """The URI that names this type of problem (RFC 9457, 3.1.1)."""
        return self.base + self.slug

    def as_dict(self) -> dict[str, Any]:
        """Return the members of the problem document (RFC 9457, 3.1) with two extensions."""
        return {
            "type": self.type,
            "title": self.title,
            "status": self.code,
            "detail": self.description,
            "instance": self.instance,
            "retryable": self.retryable,
            "idempotency_key": self.key,
        }

    def get_body(
        self, environ: WSGIEnvironment | None = None, scope: dict[str, Any] | None = None
    ) -> str:
        """Return the body in the format that the client prefers: JSON or HTML."""
        if not _prefers_html(environ):
            return json.dumps(self.as_dict()) + "\n"
        return self.default_page() if self.render is None else self.render(self)

    def default_page(self) -> str:
        """Render the page from this package's template."""
        return _default_template().render(problem=self)

    def get_headers(
        self, environ: WSGIEnvironment | None = None, scope: dict[str, Any] | None = None
    ) -> list[tuple[str, str]]:
        """Return the headers, with ``Retry-After`` where the client may try again."""
        html = _prefers_html(environ)
        headers = [
            ("Content-Type", "text/html; charset=utf-8" if html else "application/problem+json"),
            ("Cache-Control", "no-store"),
            ("Vary", "Accept"),
        ]
        if self.retry_after is not None:
            headers.append(("Retry-After", str(self.retry_after)))
        return headers


@cache
def _default_template() -> Template:
    loader = PackageLoader("flask_idempotent", "web/templates")
    return Environment(loader=loader, autoescape=True).get_template(TEMPLATE)


def _prefers_html(environ: WSGIEnvironment | None) -> bool:
    accepted = Request(environ or {}, populate_request=False).accept_mimetypes
    offers = ["application/problem+json", "application/json", "text/html"]
    return accepted.best_match(offers) == "text/html"


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


class RequestInProgress(Problem, Conflict):
    """The first request with this key is still being processed."""

    slug = "in-progress"
    title = "Request in progress"
    form_title = "This form is still being processed"
    form_detail = (
        "It was sent before, and its answer is not ready yet. Wait a moment, then reload "
        "this page to see it. The form will not be processed twice."
    )
    retryable = True


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
