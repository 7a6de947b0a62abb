"""The code of views, read without running it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import CodeType


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
