"""The base of every problem: its document and its page."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from jinja2 import Environment, PackageLoader
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request

if TYPE_CHECKING:
    from datetime import datetime

    from _typeshed.wsgi import WSGIEnvironment
    from jinja2 import Template

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
