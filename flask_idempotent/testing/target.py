"""The target of a request: its view, and why its key may never be checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import RequestRedirect

from flask_idempotent._http_semantics import SAFE_METHODS, UNTRACKED_METHODS
from flask_idempotent.settings import Settings
from flask_idempotent.testing.failures import Failure
from flask_idempotent.web.placement import check_places
from flask_idempotent.web.protection import STATIC_FILES, Kind, Protection
from flask_idempotent.web.routes import qualified_name
from flask_idempotent.web.state import state_of

if TYPE_CHECKING:
    from flask import Flask

    from flask_idempotent.testing.requests import RecordedRequest


@dataclass(frozen=True, slots=True)
class Target:
    """The view that a request reaches.

    :param name: its module and name, and its endpoint; empty if there is none.
    :param settings: the settings that it runs with.
    :param failure: why its key is never checked, where that is known without a request.
    """

    name: str
    settings: Settings
    failure: Failure | None = None


def find_target(app: Flask, call: RecordedRequest, method: str) -> Target:
    """Find the target of a request.

    :raises SettingsError: when the application refuses every request.
    """
    check_places(app)
    state = state_of(app)
    adapter = app.create_url_adapter(app.request_class(dict(call.environ)))
    assert adapter is not None, "a request always has one"
    try:
        rule, _ = adapter.match(return_rule=True)
    except HTTPException as error:
        return Target("", state.settings(), _unrouted(error, method))
    protection = state.protections.of(rule.endpoint, method)
    name = f"{qualified_name(protection.view)}, endpoint {rule.endpoint!r}"
    return Target(name, protection.settings, _unprotected(protection, method))


def _unrouted(error: HTTPException, method: str) -> Failure:
    if isinstance(error, RequestRedirect):
        return Failure(
            f"it is redirected to {error.new_url} before any view sees it",
            "Use the path of the route, often with a slash at its end.",
        )
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return Failure(f"the path allows {allowed}, not {method}", "Use a method that it allows.")
    return Failure(f"no view answers it: {error.code} {error.name}", "Use the path of a route.")


def _how_to_protect(view: Any) -> str:
    if hasattr(view, "view_class"):
        return "Give the class decorators = [idempotent]"
    return "Put @idempotent on the view, below @app.route and below what checks who is asking"


def _unprotected(protection: Protection, method: str) -> Failure | None:
    if protection.source == STATIC_FILES:
        return Failure("static files are never tracked", "Use a route of the application.")
    if protection.kind is Kind.EXEMPT:
        return Failure(
            "the view is exempt, so every retry runs it again",
            f"Remove idempotent.exempt from the {protection.source}.",
        )
    if protection.kind is Kind.UNPROTECTED:
        return Failure(
            "the view is not protected, so every retry runs it again",
            f"{_how_to_protect(protection.view)}; or protect the whole application with "
            "Idempotent(app).",
        )
    if method in UNTRACKED_METHODS or (
        method in SAFE_METHODS and protection.settings.methods is None
    ):
        return Failure(
            f"{method} is not tracked, as it has no effect that must not be repeated",
            "Send a method that changes something.",
        )
    if not protection.claims:
        tracked = ", ".join(sorted(protection.settings.methods or ()))
        return Failure(
            f"the method is not tracked, only {tracked}, so every retry runs the view again",
            f"Add {method} to methods= or IDEMPOTENT_METHODS.",
        )
    return None
