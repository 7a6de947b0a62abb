"""Checks of the views: which are protected, whose keys are whose, and the order of decorators."""

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
from flask_idempotent.web.notices import keeps_cookies, untracked_views
from flask_idempotent.web.placement import misplaced
from flask_idempotent.web.protection import Kind
from flask_idempotent.web.routes import routes_of
from flask_idempotent.web.state import state_of

if TYPE_CHECKING:
    from flask import Flask

_WHO = r"(log_?in|auth\w*|jwt|tokens?|roles?|permissions?|admin|users?|api_?key|session|scopes?)"
#: Names of decorators that let some callers in and others not.
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


def places(app: Flask) -> Iterator[Finding]:
    """Decorators that protect nothing."""
    for view in misplaced(app):
        yield error("place", view.text, view.fix)


def tracked(app: Flask) -> Iterator[Finding]:
    """Decorated views of which no method is tracked."""
    idle = [
        f"{'/'.join(view.methods)} {view.path}"
        for view in untracked_views(app, state_of(app).protections)
    ]
    if idle:
        yield warning(
            "methods",
            "A view has @idempotent, but takes none of the methods that are tracked, so nothing "
            f"protects it. {listed(idle)}",
            "Remove the decorator, or name the method in methods=.",
        )


def unprotected(app: Flask) -> Iterator[Finding]:
    """Which routes have an effect and are not protected, without a word that this is meant."""
    found = [
        f"{'/'.join(methods)} {rule.rule}"
        for rule, every, protection in routes_of(app, state_of(app).protections)
        if (methods := sorted(set(every) - SAFE_METHODS))
        and not protection.claims
        and protection.kind is not Kind.EXEMPT
    ]
    if found:
        yield note(
            "unprotected",
            "A key changes nothing for these routes: what is sent to them twice runs twice. "
            + listed(found),
            "Protect those that must not run twice, and say of the others that they are exempt.",
        )


def cookies(routes: Routes) -> Iterator[Finding]:
    """Replays that hand out another's session."""
    keeping = [named(route) for route in routes if keeps_cookies(route.settings)]
    if keeping:
        yield warning(
            "cookies",
            "keep_headers has Set-Cookie: everybody who has a key gets the cookies of its first "
            f"request, sessions too. {listed(keeping, routes)}",
            "Remove Set-Cookie from keep_headers.",
        )


def required(routes: Routes) -> Iterator[Finding]:
    """Which routes run without a key; one that only reads may."""
    changing = [route for route in routes if REQUIRING_METHODS.intersection(route.methods)]
    optional = [named(route) for route in changing if not route.required]
    if optional:
        yield note(
            "required",
            "A request without a key is not protected, and runs as often as it is sent. "
            + listed(optional, changing),
            "Where clients must send a key, set required=True.",
        )
    else:
        yield ok("required", "Every protected route refuses a request without a key.")


def scopes(app: Flask, routes: Routes) -> Iterator[Finding]:
    """Whose keys are whose."""
    default = [route for route in routes if route.settings.scope is None]
    if not default:
        yield ok("scope", "Every protected route has a scope function.")
        return
    headers = [f"{name.title()}, " for name in sorted(default[0].settings.scope_headers)]
    seen = f"Callers are known by {''.join(headers)}Flask-Login's user and the session's user_id."
    where = listed([named(route) for route in default], routes)
    found = list(clues(app, default))
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        yield warning(
            "scope",
            f"{seen} But {'; '.join(found[:_SHOWN])}{more}. Callers whom this alone tells apart "
            f"share their keys: one may get another's response. {where}",
            _SCOPE,
        )
    elif "IDEMPOTENT_SCOPE_HEADERS" in app.config:
        yield ok("scope", f"{seen} IDEMPOTENT_SCOPE_HEADERS is set.")
    elif hasattr(app, "login_manager"):
        yield note("scope", f"{seen} Callers that are known in another way share their keys.")
    else:
        yield warning(
            "scope",
            f"{seen} Flask-Login is not in use. Callers that are known in another way, such as a "
            f"cookie, share their keys: one may get another's response. {where}",
            f"{_SCOPE} Where these headers name every caller, set it to them to say so.",
        )


_SHOWN = 3
_SCOPE = (
    "Set IDEMPOTENT_SCOPE to a function that tells them apart, or IDEMPOTENT_SCOPE_HEADERS to the "
    "headers that do."
)


def order(app: Flask, routes: Routes) -> Iterator[Finding]:
    """Whether anything that lets callers in stands behind the check of the key."""
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
            "The key is checked before a decorator that lets callers in: what that decorator "
            f"refuses is stored, and a replay does not pass it. {listed(wrong)}",
            "Put @idempotent below that decorator. Idempotent(app) alone stands above all "
            "decorators, so such a view needs an @idempotent of its own.",
        )
    else:
        yield ok("order", "No decorator that lets callers in was found behind the check.")
    if unknown:
        yield note(
            "decorators",
            "The check of Idempotent(app), or of a protected blueprint, stands above decorators "
            "whose names do not say what they do. If one of them lets callers in, as the check of "
            f"a signature does, a replay does not pass it. {listed(unknown)}",
            "Give such a view an @idempotent of its own, below that decorator.",
        )


def caches(app: Flask, routes: Routes) -> Iterator[Finding]:
    """Whether a cache stands before the check of the key."""
    wrong = [
        named(route)
        for route in routes
        if any(_is_cached(app, route, method) for method in route.methods)
    ]
    if wrong:
        yield error(
            "cache",
            "A decorator that caches stands above @idempotent: what it holds is the answer to "
            f"other requests too, whatever their key, payload and caller. {listed(wrong)}",
            "Take the cache off these routes, or put it below @idempotent.",
        )


def _is_cached(app: Flask, route: ProtectedRoute, method: str) -> bool:
    layers = list(layers_of(app.view_functions[route.rule.endpoint], method, load=True))
    checks = [place for place, layer in enumerate(layers) if is_protecting(layer)]
    # functools has the first of the names on what it makes, Flask-Caching the second.
    return any(
        hasattr(layer, "cache_clear") or hasattr(layer, "uncached")
        for layer in layers[: checks[0] if checks else 0]
    )


def _decorators_behind(
    app: Flask, route: ProtectedRoute, method: str
) -> Iterator[tuple[str, bool]]:
    layers = list(layers_of(app.view_functions[route.rule.endpoint], method, load=True))
    # An application-wide check stands above them all.
    checks = [place for place, layer in enumerate(layers) if is_protecting(layer)]
    for layer in layers[checks[-1] + 1 if checks else 0 :]:
        # What wraps nothing is the view itself, perhaps made by a function, as an application's
        # factory is.
        if hasattr(layer, "__wrapped__") and (name := _decorator(layer)):
            yield name, not checks


def _decorator(layer: object) -> str:
    # What functools.wraps does not hide: a wrapper's code is named after who made it.
    name: str = getattr(getattr(layer, "__code__", None), "co_qualname", "")
    maker, inside, _ = name.partition(".<locals>")
    return maker.rpartition(".")[2] if inside else ""
