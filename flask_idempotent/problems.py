"""Problems: the library's answers to a client whose request it does not serve.

Each is a werkzeug exception, so an application's own ``errorhandler`` wins: by class, by the
werkzeug class above it, or by number. Left alone, it answers ``application/problem+json``
(RFC 9457), or a small HTML page where the client prefers HTML.

* Problem
    * KeyMissing (400)
    * KeyInvalid (400)
    * BodyIncomplete (400)
    * InProgress (409)
    * ResponseNotKept (409)
    * OutcomeUnknown (409)
    * KeyReused (422)
    * StoreUnavailable (503)
    * RecordUnreadable (503)
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from markupsafe import escape
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import (
    BadRequest,
    Conflict,
    HTTPException,
    ServiceUnavailable,
    UnprocessableEntity,
)
from werkzeug.http import parse_accept_header

if TYPE_CHECKING:
    from datetime import datetime

    from _typeshed.wsgi import WSGIEnvironment

PROBLEM_BASE = "urn:flask-idempotent:problem:"

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 4rem auto; padding: 0 1rem }}
small {{ opacity: .75; overflow-wrap: anywhere }}
</style>
<h1>{title}</h1>
<p>{detail}</p>
{key}</html>
"""  # noqa: E501


class Problem(HTTPException):
    """Base of every problem.

    :param detail: what was wrong, what was expected and how to mend it.
    :param key: the client's own key, where it was readable.
    :param base: what the problem's ``type`` begins with.
    :param retry_after: seconds after which another try makes sense.
    """

    #: Last part of the problem's ``type``; stable, for programs.
    slug: ClassVar[str]
    #: Short and the same for every problem of this type.
    title: ClassVar[str]
    #: Whether the same request may succeed later.
    retryable: ClassVar[bool] = False

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
        # The type is werkzeug's, whose 503 has such an attribute too.
        self.retry_after: datetime | int | None = retry_after
        self.instance = uuid.uuid4().urn

    @property
    def name(self) -> str:
        """The title, where werkzeug has the reason phrase."""
        return self.title

    @property
    def type(self) -> str:
        """The problem's type, a URI (RFC 9457, 3.1.1)."""
        return self.base + self.slug

    def as_dict(self) -> dict[str, Any]:
        """The members of the problem document (RFC 9457, 3.1) and two extensions."""
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
        """Write the body, in the form that the client prefers."""
        if not _prefers_html(environ):
            return json.dumps(self.as_dict()) + "\n"
        key = f"<p><small>Request key: {escape(self.key)}</small></p>\n" if self.key else ""
        detail = escape(self.description or "")
        return _PAGE.format(title=escape(self.title), detail=detail, key=key)

    def get_headers(
        self, environ: WSGIEnvironment | None = None, scope: dict[str, Any] | None = None
    ) -> list[tuple[str, str]]:
        """Write the headers; ``Retry-After`` only where another try makes sense."""
        html = _prefers_html(environ)
        headers = [
            ("Content-Type", "text/html; charset=utf-8" if html else "application/problem+json"),
            ("Cache-Control", "no-store"),
            ("Vary", "Accept"),
        ]
        if self.retry_after is not None:
            headers.append(("Retry-After", str(self.retry_after)))
        return headers


def _prefers_html(environ: WSGIEnvironment | None) -> bool:
    accept = parse_accept_header((environ or {}).get("HTTP_ACCEPT"), MIMEAccept)
    offers = ["application/problem+json", "application/json", "text/html"]
    return accept.best_match(offers) == "text/html"


class KeyMissing(Problem, BadRequest):
    """The view requires a key and the request has none."""

    slug = "key-missing"
    title = "Idempotency key missing"


class KeyInvalid(Problem, BadRequest):
    """The key cannot be read, or two sources of the request disagree about it."""

    slug = "key-invalid"
    title = "Idempotency key invalid"


class BodyIncomplete(Problem, BadRequest):
    """The request's body broke off before its end."""

    slug = "body-incomplete"
    title = "Request body incomplete"


class InProgress(Problem, Conflict):
    """The first request with this key has not finished."""

    slug = "in-progress"
    title = "Request in progress"
    retryable = True


class ResponseNotKept(Problem, Conflict):
    """The first request finished, but its response was too large or broke off."""

    slug = "response-not-kept"
    title = "Response not kept"


class OutcomeUnknown(Problem, Conflict):
    """The first request's process died and the view must not be run twice."""

    slug = "outcome-unknown"
    title = "Outcome unknown"


class KeyReused(Problem, UnprocessableEntity):
    """The key belongs to another request: another method, path or payload."""

    slug = "key-reused"
    title = "Idempotency key reused"


class StoreUnavailable(Problem, ServiceUnavailable):
    """The store cannot be asked whether this request ran before."""

    slug = "store-unavailable"
    title = "Temporarily unavailable"
    retryable = True


class RecordUnreadable(Problem, ServiceUnavailable):
    """What the store has for this key cannot be read."""

    slug = "record-unreadable"
    title = "Stored response unreadable"


ALL: Iterable[type[Problem]] = (
    KeyMissing,
    KeyInvalid,
    BodyIncomplete,
    InProgress,
    ResponseNotKept,
    OutcomeUnknown,
    KeyReused,
    StoreUnavailable,
    RecordUnreadable,
)
