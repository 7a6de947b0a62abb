"""What the shop answers when it cannot serve a request: a page for a browser, else JSON."""

from __future__ import annotations

from flask import render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

HEADINGS = {
    "in-progress": "Your order is still being placed",
    "key-reused": "This form has been sent before, with another order",
}


def problem(error: HTTPException) -> ResponseReturnValue:
    """Answer a browser with a page of the shop, and other clients with the error unchanged."""
    offers = ["application/problem+json", "application/json", "text/html"]
    if request.accept_mimetypes.best_match(offers) != "text/html":
        return error
    # The error's own response has headers worth keeping, such as Retry-After.
    answer = error.get_response(request.environ)
    heading = HEADINGS.get(getattr(error, "slug", ""), error.name)
    answer.set_data(problem_page(heading, error.description or ""))
    answer.content_type = "text/html; charset=utf-8"
    return answer


def problem_page(title: str, detail: str) -> str:
    return render_template("problem.html", title=title, detail=detail)


def refusal(status: int, detail: str) -> ResponseReturnValue:
    """Return a problem document (RFC 9457), the format the library's own answers have."""
    problem = {"type": "about:blank", "status": status, "detail": detail}
    return problem, status, {"Content-Type": "application/problem+json"}
