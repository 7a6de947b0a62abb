"""Problem pages: the HTML page of a problem, rendered with the application's templates."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import current_app, render_template
from jinja2 import TemplateNotFound

from flask_idempotent._problem_base import TEMPLATE, Problem
from flask_idempotent.http.bodies import FORM_TYPES

if TYPE_CHECKING:
    from flask import Request

    from flask_idempotent.settings import Settings


def prepare_page(problem: Problem, request: Request, settings: Settings) -> None:
    """Set on a problem whether a person sent the request, and how its page is rendered.

    :param problem: the problem, before it is raised.
    :param request: the request that is answered with it.
    :param settings: the settings of the view.
    """
    # A program that sends a form has its key in a header.
    has_header = any(environ_name in request.environ for environ_name in settings.environ_names)
    problem.from_form = request.mimetype in FORM_TYPES and not has_header
    problem.back = _referring_page(request)
    problem.render = _render


def _referring_page(request: Request) -> str | None:
    try:
        referrer = urlsplit(request.referrer or "")
    except ValueError:
        return None
    # A link to this site only, and only its path: the client chooses the header.
    if referrer.netloc != request.host or not referrer.path.startswith("/"):
        return None
    path = "/" + referrer.path.lstrip("/")
    return f"{path}?{referrer.query}" if referrer.query else path


def _render(problem: Problem) -> str:
    try:
        current_app.jinja_env.get_template(TEMPLATE)
    except TemplateNotFound:
        # Without Idempotent(app), the application does not have the package's templates.
        return problem.default_page()
    return render_template(TEMPLATE, problem=problem)
