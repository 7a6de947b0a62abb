"""Checks of the views: which are protected, in whose scope, and the order of decorators."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask_idempotent._http_semantics import REQUIRING_METHODS, SAFE_METHODS
from flask_idempotent.doctor.caller_checks import clues
from flask_idempotent.doctor.findings import Finding, error, note, ok, warning
from flask_idempotent.doctor.routes import Routes, listed, named
from flask_idempotent.policy import ProtectedRoute
from flask_idempotent.web.marks import is_protecting, layers_of
from flask_idempotent.web.notices import keeps_cookies, login_entries, untracked_views
from flask_idempotent.web.placement import misplaced
from flask_idempotent.web.protection import Kind
from flask_idempotent.web.routes import requests_name, routes_of
from flask_idempotent.web.state import state_of

if TYPE_CHECKING:
    from flask import Flask

_WHO = r"(log_?in|auth\w*|jwt|tokens?|roles?|permissions?|admin|users?|api_?key|session|scopes?)"
#: Names of decorators that refuse some callers.
_GUARD = re.compile(
    rf"(\w+_)?{_WHO}_(required|accepted|needed)"
    rf"|(require[sd]?|needs?|ensures?|verify|check)_(\w+_)?{_WHO}",
    re.IGNORECASE,
)


def examine(app: Flask, routes: Routes) -> Iterator[Finding]:
    """Check the views of an application."""
    yield from places(app)
    yield from tracked(app)
    if not routes:
        yield warning(
            "routes",
            "No route is protected.",
            "Decorate views with @idempotent, or call Idempotent(app).",
        )
        return
    yield from unprotected(app)
    yield from required(routes)
    yield from scopes(app, routes)
    yield from order(app, routes)
    yield from caches(app, routes)
    yield from cookies(routes)
    yield from logins(routes)


def places(app: Flask) -> Iterator[Finding]:
    """Find decorators that protect nothing."""
    for view in misplaced(app):
        yield error("place", view.text, view.fix)


def tracked(app: Flask) -> Iterator[Finding]:
    """Find decorated views without a tracked method."""
    idle = [
        requests_name(view.methods, view.path)
        for view in untracked_views(app, state_of(app).protections)
    ]
    if idle:
        yield warning(
            "methods",
            "A view has @idempotent, but none of its methods is tracked, so nothing "
            f"protects it. {listed(idle)}",
            "Remove the decorator, or name the method in methods=.",
        )


def unprotected(app: Flask) -> Iterator[Finding]:
    """Find routes that change something and are neither protected nor exempt."""
    names = [
        requests_name(methods, rule.rule)
        for rule, every, protection in routes_of(app, state_of(app).protections)
        if (methods := sorted(set(every) - SAFE_METHODS))
        and not protection.claims
        and protection.kind is not Kind.EXEMPT
    ]
    if names:
        yield note(
            "unprotected",
            "A route ignores idempotency keys: a request that is sent twice runs twice. "
            + listed(names),
            "Protect the routes that must not run twice, and exempt the others.",
        )


def cookies(routes: Routes) -> Iterator[Finding]:
    """Find replays that repeat cookies."""
    keeping = [named(route) for route in routes if keeps_cookies(route.settings)]
    if keeping:
        yield warning(
            "cookies",
            "keep_headers has Set-Cookie: everybody who has a key gets the cookies of its first "
            f"request, sessions too. {listed(keeping, routes)}",
            "Remove Set-Cookie from keep_headers.",
        )


def logins(routes: Routes) -> Iterator[Finding]:
    """Find replays that sign a user in."""
    repeating = [named(route) for route in routes if login_entries(route.settings)]
    if repeating:
        yield warning(
            "logins",
            "replay_session names the entry of a login: everybody who sends a request again with "
            f"its key is signed in as its first sender. {listed(repeating, routes)}",
            "Remove _user_id and user_id from replay_session.",
        )


def required(routes: Routes) -> Iterator[Finding]:
    """Find routes that change something and run without a key."""
    changing = [route for route in routes if REQUIRING_METHODS.intersection(route.methods)]
    optional = [named(route) for route in changing if not route.required]
    if optional:
        yield note(
            "required",
            "A request without a key is not protected: it runs as often as it is sent. "
            + listed(optional, changing),
            "Set required=True where clients must send a key.",
        )
    else:
        yield ok("required", "Every protected route refuses a request without a key.")


def scopes(app: Flask, routes: Routes) -> Iterator[Finding]:
    """Check whether the scope can tell callers apart."""
    default = [route for route in routes if route.settings.scope is None]
    if not default:
        yield ok("scope", "Every protected route has a scope function.")
        return
    headers = [f"{name.title()}, " for name in sorted(default[0].settings.scope_headers)]
    names = f"{''.join(headers)}Flask-Login's user and the session's user_id"
    known_by = f"Callers are known by {names}."
    where = listed([named(route) for route in default], routes)
    signs = list(clues(app, default))
    if signs:
        more = f"; and {len(signs) - _SHOWN} more" if len(signs) > _SHOWN else ""
        yield warning(
            "scope",
            f"{known_by} But {'; '.join(signs[:_SHOWN])}{more}. Callers that differ only in this "
            f"share their keys: one may get another's response. {where}",
            _SCOPE,
        )
    elif "IDEMPOTENT_SCOPE_HEADERS" in app.config:
        yield ok("scope", f"{known_by} IDEMPOTENT_SCOPE_HEADERS is set.")
    elif hasattr(app, "login_manager"):
        yield note("scope", f"{known_by} Callers identified in another way share their keys.")
    else:
        yield warning(
            "scope",
            f"{known_by} Flask-Login is not in use. Callers identified otherwise, such as by a "
            f"cookie, share their keys: one may get another's response. {where}",
            f"{_SCOPE} If these headers do identify every caller, set it to them to confirm that.",
        )


_SHOWN = 3
_SCOPE = (
    "Set IDEMPOTENT_SCOPE to a function that tells them apart, or IDEMPOTENT_SCOPE_HEADERS to the "
    "headers that do."
)


def order(app: Flask, routes: Routes) -> Iterator[Finding]:
    """Check whether decorators that refuse callers run before the check of the key."""
    wrong, unknown = [], []
    for route in routes:
        behind = {
            layer for method in route.methods for layer in _decorators_behind(app, route, method)
        }
        for name, app_wide in sorted(behind):
            if _GUARD.fullmatch(name):
                wrong.append(f"{named(route)} (@{name})")
            elif app_wide:
                unknown.append(f"{named(route)} (@{name})")
    if wrong:
        yield warning(
            "order",
            "The key is checked before a decorator that refuses callers: its refusals are stored, "
            f"and replays bypass it. {listed(wrong)}",
            "Put @idempotent below that decorator. Idempotent(app) runs before all "
            "decorators, so such a view needs its own @idempotent.",
        )
    else:
        yield ok("order", "No decorator that refuses callers was found below the check.")
    if unknown:
        yield note(
            "decorators",
            "The check of Idempotent(app), or of a protected blueprint, stands above decorators "
            "whose names do not say what they do. If one of them refuses callers, as the check of "
            f"a signature does, replays bypass it. {listed(unknown)}",
            "Give such a view its own @idempotent, below that decorator.",
        )


def caches(app: Flask, routes: Routes) -> Iterator[Finding]:
    """Check whether a cache answers before the key is checked."""
    wrong = [
        named(route)
        for route in routes
        if any(_is_cached(app, route, method) for method in route.methods)
    ]
    if wrong:
        yield error(
            "cache",
            "A caching decorator is above @idempotent: it answers other requests too, whatever "
            f"their key, payload and caller. {listed(wrong)}",
            "Remove the cache from these routes, or put it below @idempotent.",
        )


def _is_cached(app: Flask, route: ProtectedRoute, method: str) -> bool:
    layers = list(layers_of(app.view_functions[route.rule.endpoint], method, load=True))
    checks = [place for place, layer in enumerate(layers) if is_protecting(layer)]
    # functools sets the first of these attributes, Flask-Caching the second.
    return any(
        hasattr(layer, "cache_clear") or hasattr(layer, "uncached")
        for layer in layers[: checks[0] if checks else 0]
    )


def _decorators_behind(
    app: Flask, route: ProtectedRoute, method: str
) -> Iterator[tuple[str, bool]]:
    layers = list(layers_of(app.view_functions[route.rule.endpoint], method, load=True))
    # An application-wide check runs before all of them.
    checks = [place for place, layer in enumerate(layers) if is_protecting(layer)]
    for layer in layers[checks[-1] + 1 if checks else 0 :]:
        # A function that wraps nothing is the view itself, even if it is defined in another one.
        if hasattr(layer, "__wrapped__") and (name := _decorator(layer)):
            yield name, not checks


def _decorator(layer: object) -> str:
    # functools.wraps leaves the code object alone, whose name contains the decorator's.
    name: str = getattr(getattr(layer, "__code__", None), "co_qualname", "")
    maker, inside, _ = name.partition(".<locals>")
    return maker.rpartition(".")[2] if inside else ""
