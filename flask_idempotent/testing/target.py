"""Views: what a call reaches, and why its key may never be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import RequestRedirect

from flask_idempotent._http_semantics import SAFE_METHODS, UNTRACKED_METHODS
from flask_idempotent.settings import Settings
from flask_idempotent.testing.failures import Fault
from flask_idempotent.web.placement import check_places
from flask_idempotent.web.protection import STATIC_FILES, Kind, Protection
from flask_idempotent.web.routes import qualified_name
from flask_idempotent.web.state import state_of

if TYPE_CHECKING:
    from flask import Flask

    from flask_idempotent.testing.requests import Call


@dataclass(frozen=True, slots=True)
class View:
    """The view that a call reaches.

    :param name: its module and name, and its endpoint; empty where there is none.
    :param settings: the settings that it runs with.
    :param fault: why its key is never looked at, where that shows without a request.
    """

    name: str
    settings: Settings
    fault: Fault | None = None


def view_of(app: Flask, call: Call, method: str) -> View:
    """Find the view of a call.

    :raises SettingsError: when the application refuses every request.
    """
    check_places(app)
    state = state_of(app)
    adapter = app.create_url_adapter(app.request_class(dict(call.environ)))
    assert adapter is not None, "a request always has one"
    try:
        rule, _ = adapter.match(return_rule=True)
    except HTTPException as error:
        return View("", state.settings(), _unrouted(error, method))
    found = state.protections.of(rule.endpoint, method)
    name = f"{qualified_name(found.view)}, endpoint {rule.endpoint!r}"
    return View(name, found.settings, _unprotected(found, method))


def _unrouted(error: HTTPException, method: str) -> Fault:
    if isinstance(error, RequestRedirect):
        return Fault(
            f"it is redirected to {error.new_url} before any view sees it",
            "Name the path that the route has, mostly with a slash at its end.",
        )
    if isinstance(error, MethodNotAllowed):
        taken = ", ".join(sorted(error.valid_methods or ()))
        return Fault(f"the path takes {taken}, not {method}", "Name a method that it takes.")
    return Fault(f"no view answers it: {error.code} {error.name}", "Name the path of a route.")


def _how_to_protect(view: Any) -> str:
    if hasattr(view, "view_class"):
        return "Give the class decorators = [idempotent]"
    return "Put @idempotent on the view, below @app.route and below what checks who is asking"


def _unprotected(found: Protection, method: str) -> Fault | None:
    if found.source == STATIC_FILES:
        return Fault("static files are never tracked", "Name a route of the application's own.")
    if found.kind is Kind.EXEMPT:
        return Fault(
            "the view is exempt, so every retry runs it again",
            f"Take idempotent.exempt off the {found.source}.",
        )
    if found.kind is Kind.UNPROTECTED:
        return Fault(
            "the view is not protected, so every retry runs it again",
            f"{_how_to_protect(found.view)}; or protect the whole application with "
            "Idempotent(app).",
        )
    if method in UNTRACKED_METHODS or (method in SAFE_METHODS and found.settings.methods is None):
        return Fault(
            f"{method} is not tracked, as it has no effect that must not be repeated",
            "Send a method that changes something.",
        )
    if not found.claims:
        tracked = ", ".join(sorted(found.settings.methods or ()))
        return Fault(
            f"the method is not tracked, only {tracked}, so every retry runs the view again",
            f"Add {method} to methods= or IDEMPOTENT_METHODS.",
        )
    return None
