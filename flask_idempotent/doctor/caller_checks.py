"""What tells of callers whom the default scope cannot see, as far as that can be told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from types import CodeType
from typing import TYPE_CHECKING

from flask_idempotent.doctor.routes import Routes
from flask_idempotent.web.marks import layers_of

if TYPE_CHECKING:
    from flask import Flask

#: Headers whose names say that they tell who is asking, or for whom.
_CALLERS_HEADER = re.compile(
    r"[a-z0-9-]*(tenant|account|org|customer|client|user|member|team|api-?key|auth|token|session)"
    r"[a-z0-9-]*",
    re.IGNORECASE,
)
_NO_CALLER = re.compile(r"user-agent|.*(csrf|xsrf).*", re.IGNORECASE)


def clues(app: Flask, routes: Routes) -> Iterator[str]:
    """Name what tells the application of its callers and is none of the default scope's.

    :param routes: those with the default scope.
    """
    if getattr(getattr(app, "login_manager", None), "_request_callback", None) is not None:
        yield "Flask-Login has a request_loader"
    if "cookies" in app.config.get("JWT_TOKEN_LOCATION", ()):
        yield "Flask-JWT-Extended takes tokens from cookies"
    if any("<" in f"{route.rule.host}{route.rule.subdomain}" for route in routes):
        yield "routes take a part of the host name"
    known = frozenset().union(*(route.settings.scope_headers for route in routes))
    for name, function in _functions(app, routes):
        for what in sorted(_reads(function, known)):
            yield f"{name} reads {what}"


def _functions(app: Flask, routes: Routes) -> Iterator[tuple[str, object]]:
    # Every function once, though many routes may share it.
    found: dict[int, tuple[str, object]] = {}
    hooks: Iterable[object] = chain(
        *app.before_request_funcs.values(), *app.url_value_preprocessors.values()
    )
    for hook in hooks:
        found.setdefault(id(hook), (getattr(hook, "__name__", repr(hook)), hook))
    for route in routes:
        for method in route.methods:
            for layer in layers_of(app.view_functions[route.rule.endpoint], method, load=True):
                found.setdefault(id(layer), (f"the view {route.rule.endpoint}", layer))
    yield from found.values()


def _reads(function: object, known: frozenset[str]) -> set[str]:
    found = set()
    for code in _codes(function):
        if "request" not in code.co_names:
            continue
        if "cookies" in code.co_names:
            found.add("cookies")
        if "host" in code.co_names:
            found.add("the host name")
        if "headers" in code.co_names:
            texts = (text for text in code.co_consts if isinstance(text, str))
            found.update(f"the header {text}" for text in texts if _names_caller(text, known))
    return found


def _names_caller(header: str, known: frozenset[str]) -> bool:
    # Other texts of a function, such as the name of a field, have no hyphen.
    return (
        "-" in header
        and header.lower() not in known
        and _CALLERS_HEADER.fullmatch(header) is not None
        and _NO_CALLER.fullmatch(header) is None
    )


def _codes(function: object) -> Iterator[CodeType]:
    while isinstance(function, partial):
        function = function.func
    left = [getattr(function, "__code__", None)]
    while left:
        code = left.pop()
        if isinstance(code, CodeType):
            yield code
            left.extend(code.co_consts)
