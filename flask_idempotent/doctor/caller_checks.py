"""Signs that callers are identified by something that the default scope does not include."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from flask_idempotent.doctor.routes import Routes
from flask_idempotent.doctor.view_code import codes_of
from flask_idempotent.web.marks import layers_of

if TYPE_CHECKING:
    from flask import Flask

#: Headers whose names suggest that they identify the caller.
_CALLERS_HEADER = re.compile(
    r"[a-z0-9-]*(tenant|account|org|customer|client|user|member|team|api-?key|auth|token|session)"
    r"[a-z0-9-]*",
    re.IGNORECASE,
)
_NO_CALLER = re.compile(r"user-agent|.*(csrf|xsrf).*", re.IGNORECASE)


def clues(app: Flask, routes: Routes) -> Iterator[str]:
    """Name what identifies callers to the application and is not part of the default scope.

    :param routes: the routes with the default scope.
    """
    if getattr(getattr(app, "login_manager", None), "_request_callback", None) is not None:
        yield "Flask-Login has a request_loader"
    if "cookies" in app.config.get("JWT_TOKEN_LOCATION", ()):
        yield "Flask-JWT-Extended reads tokens from cookies"
    if any("<" in f"{route.rule.host}{route.rule.subdomain}" for route in routes):
        yield "routes match a part of the host name"
    scope_headers = frozenset().union(*(route.settings.scope_headers for route in routes))
    for name, function in _functions(app, routes):
        for source in sorted(_sources(function, scope_headers)):
            yield f"{name} reads {source}"


def _functions(app: Flask, routes: Routes) -> Iterator[tuple[str, object]]:
    # Each function once, even if many routes share it.
    functions: dict[int, tuple[str, object]] = {}
    hooks: Iterable[object] = chain(
        *app.before_request_funcs.values(), *app.url_value_preprocessors.values()
    )
    for hook in hooks:
        functions.setdefault(id(hook), (getattr(hook, "__name__", repr(hook)), hook))
    for route in routes:
        for method in route.methods:
            for layer in layers_of(app.view_functions[route.rule.endpoint], method, load=True):
                functions.setdefault(id(layer), (f"the view {route.rule.endpoint}", layer))
    yield from functions.values()


def _sources(function: object, scope_headers: frozenset[str]) -> set[str]:
    """Say what a function reads of a request that may identify the caller."""
    sources = set()
    for code in codes_of(function):
        if "request" not in code.co_names:
            continue
        if "cookies" in code.co_names:
            sources.add("cookies")
        if "host" in code.co_names:
            sources.add("the host name")
        if "headers" in code.co_names:
            texts = (text for text in code.co_consts if isinstance(text, str))
            names = (text for text in texts if _identifies_caller(text, scope_headers))
            sources.update(f"the header {name}" for name in names)
    return sources


def _identifies_caller(header: str, scope_headers: frozenset[str]) -> bool:
    # Other strings in a function, such as field names, rarely have a hyphen.
    return (
        "-" in header
        and header.lower() not in scope_headers
        and _CALLERS_HEADER.fullmatch(header) is not None
        and _NO_CALLER.fullmatch(header) is None
    )
