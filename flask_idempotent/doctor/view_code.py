"""The code of views, read without running it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import CodeType
from typing import TYPE_CHECKING

from flask_idempotent.policy import ProtectedRoute
from flask_idempotent.web.marks import layers_of

if TYPE_CHECKING:
    from flask import Flask


def layers(app: Flask, route: ProtectedRoute) -> Iterator[object]:
    """The view of a route, and the decorators around it."""
    view = app.view_functions[route.rule.endpoint]
    for method in route.methods:
        yield from layers_of(view, method, load=True)


def codes_of(function: object) -> Iterator[CodeType]:
    """The code of a function, and of the functions that are defined in it."""
    while isinstance(function, partial):
        function = function.func
    left = [getattr(function, "__code__", None)]
    while left:
        code = left.pop()
        if isinstance(code, CodeType):
            yield code
            left.extend(code.co_consts)
