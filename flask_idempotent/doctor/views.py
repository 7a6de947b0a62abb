"""Checks of the views: which are protected, whose keys are whose, and the order of decorators."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask_idempotent.doctor.findings import Finding, note, ok, warning
from flask_idempotent.doctor.routes import Routes, listed, named
from flask_idempotent.marks import own_overrides
from flask_idempotent.policy import Protected

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
    if not routes:
        yield warning(
            "routes",
            "No route is protected.",
            "Decorate views with @idempotent, or call Idempotent(app).",
        )
        return
    yield from required(routes)
    yield from scopes(app, routes)
    yield from order(app, routes)


def required(routes: Routes) -> Iterator[Finding]:
    """Which routes run without a key; one that only reads may."""
    changing = [route for route in routes if set(route.methods) != {"GET"}]
    optional = [named(route) for route in changing if not route.settings.required]
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
    default = [named(route) for route in routes if route.settings.scope is None]
    if not default:
        yield ok("scope", "Every protected route has a scope function.")
    elif hasattr(app, "login_manager"):
        yield ok("scope", "A key belongs to Flask-Login's user and the Authorization header.")
    else:
        yield note(
            "scope",
            "A key belongs to the Authorization header, and Flask-Login is not in use. Callers "
            "that are known in another way, such as a cookie or X-Api-Key, all share their keys: "
            f"one may get another's response. {listed(default, routes)}",
            "If there are such callers, set IDEMPOTENT_SCOPE to a function that tells them apart.",
        )


def order(app: Flask, routes: Routes) -> Iterator[Finding]:
    """Whether anything that lets callers in stands behind the check of the key."""
    wrong = [
        f"{named(route)} (@{guard})"
        for route in routes
        for guard in sorted(
            {g for method in route.methods for g in _guards_behind(app, route, method)}
        )
    ]
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


def _guards_behind(app: Flask, route: Protected, method: str) -> Iterator[str]:
    layers = list(_layers(app.view_functions[route.rule.endpoint], method))
    # Outer decorators carry the mark of the inner ones: the last that has it is the check. An
    # application-wide check stands above them all.
    marked = [
        place for place, layer in enumerate(layers) if own_overrides(layer, method) is not None
    ]
    for layer in layers[marked[-1] + 1 if marked else 0 :]:
        decorator = _decorator(layer)
        if _GUARD.fullmatch(decorator):
            yield decorator


def _layers(view: object, method: str) -> Iterator[object]:
    # Behind the decorators of a class stand those of its method.
    of_class = getattr(getattr(view, "view_class", None), method.lower(), None)
    for outermost in (view, of_class):
        layer: object = outermost
        while layer is not None:
            yield layer
            layer = getattr(layer, "__wrapped__", None)


def _decorator(layer: object) -> str:
    # What functools.wraps does not hide: a wrapper's code is named after who made it.
    name: str = getattr(getattr(layer, "__code__", None), "co_qualname", "")
    maker, inside, _ = name.partition(".<locals>")
    return maker.rpartition(".")[2] if inside else ""
