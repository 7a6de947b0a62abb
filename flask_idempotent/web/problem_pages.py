"""Problem pages: what a person sees of a problem, in the application's own templates."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import current_app, render_template
from jinja2 import TemplateNotFound

from flask_idempotent.http.bodies import FORM_TYPES
from flask_idempotent.problems import TEMPLATE, Problem

if TYPE_CHECKING:
    from flask import Request

    from flask_idempotent.settings import Settings


def prepare_page(problem: Problem, request: Request, settings: Settings) -> None:
    """Tell a problem who sent the request, and where its page is rendered.

    :param problem: the problem, before it is raised.
    :param request: the request that is answered with it.
    :param settings: the settings of the view.
    """
    # A program that posts a form sends its key in a header.
    has_header = any(environ_name in request.environ for environ_name in settings.environ_names)
    problem.from_form = request.mimetype in FORM_TYPES and not has_header
    problem.back = _referring_page(request)
    problem.render = _render


def _referring_page(request: Request) -> str | None:
    try:
        referrer = urlsplit(request.referrer or "")
    except ValueError:
        return None
    # Only a page of this very site, and only by its path: the header is the client's.
    if referrer.netloc != request.host or not referrer.path.startswith("/"):
        return None
    path = "/" + referrer.path.lstrip("/")
    return f"{path}?{referrer.query}" if referrer.query else path


def _render(problem: Problem) -> str:
    try:
        current_app.jinja_env.get_template(TEMPLATE)
    except TemplateNotFound:
        # Only decorated views: the application does not know the package's templates.
        return problem.default_page()
    return render_template(TEMPLATE, problem=problem)
