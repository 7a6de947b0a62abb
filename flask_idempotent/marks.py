"""Marks: what a view says of itself, for whoever wraps or lists the application's views."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, MappingProxyType
from typing import Any, Final

_MARK: Final = "_idempotent"
#: What an exempt view is marked with, where a decorated one has its keywords.
EXEMPT: Final[Mapping[str, Any]] = MappingProxyType({"exempt": True})


def mark(view: Callable[..., Any], overrides: Mapping[str, Any]) -> None:
    """Mark a view with its decorator's keywords, or as ``EXEMPT``."""
    setattr(view, _MARK, overrides)


def own_overrides(view: object, method: str) -> Mapping[str, Any] | None:
    """The keywords of a view that is decorated, ``EXEMPT``, or None for one that is neither.

    :param method: the request's; of a class-based view one method may be decorated.
    """
    found: Mapping[str, Any] | None = getattr(view, _MARK, None)
    if found is None and (of_class := getattr(view, "view_class", None)) is not None:
        found = getattr(getattr(of_class, method.lower(), None), _MARK, None)
    return found


def layers_of(view: object) -> Iterator[FunctionType]:
    """A view, what its decorators wrap, and for a class-based one the same of its methods."""
    while isinstance(view, FunctionType):
        yield view
        of_class = getattr(view, "view_class", None)
        for method in getattr(of_class, "methods", None) or ():
            yield from layers_of(getattr(of_class, method.lower(), None))
        view = getattr(view, "__wrapped__", None)
