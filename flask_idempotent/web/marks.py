"""Marks: what the decorators note on views, classes of views and blueprints.

A mark is the keywords of the decorator, or ``EXEMPT``. ``protection`` decides what
follows from the marks along a route.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import FunctionType, MappingProxyType, MethodType
from typing import Any, Final

#: The mark of what is exempt.
EXEMPT: Final[Mapping[str, Any]] = MappingProxyType({"exempt": True})
#: The mark of a decorated view without keywords.
NO_OVERRIDES: Final[Mapping[str, Any]] = MappingProxyType({})

_MARK: Final = "_idempotent"
#: The attribute in which a decorated function refers to itself. ``functools.wraps`` copies it, so a
#: wrapper of it refers to the decorated function.
_ITSELF: Final = "_idempotent_itself"
#: The attribute in which a function that was decorated has its own ``id()``, which differs from
#: that of a wrapper that ``functools.wraps`` has copied it to.
_WAS_DECORATED: Final = "_idempotent_was_decorated"


def mark(target: object, overrides: Mapping[str, Any]) -> None:
    """Mark a view, a class or a blueprint with keywords, or as ``EXEMPT``.

    :raises AttributeError: when it takes no attributes.
    """
    setattr(target, _MARK, overrides)


def mark_of(target: object) -> Mapping[str, Any] | None:
    """The mark of a view, a class or a blueprint.

    A decorator that uses ``functools.wraps`` copies the mark to what it returns.
    """
    overrides: Mapping[str, Any] | None = getattr(target, _MARK, None)
    return overrides


def mark_decorated(
    protected: Callable[..., Any], view: object, overrides: Mapping[str, Any]
) -> None:
    """Mark what the decorator made of a view, and note on the view that it was decorated."""
    mark(protected, overrides)
    setattr(protected, _ITSELF, protected)
    if isinstance(view, FunctionType):
        setattr(view, _WAS_DECORATED, id(view))


def mark_decorator(decorator: object, overrides: Mapping[str, Any]) -> None:
    """Mark the decorator itself, which some frameworks keep in a list of a resource.

    :raises AttributeError: when it takes no attributes.
    """
    mark(decorator, overrides)
    setattr(decorator, _ITSELF, decorator)


def is_protecting(layer: object) -> bool:
    """Whether the decorator made this very function, not a wrapper around it.

    True of the decorator itself, too, which a class may have in a list.
    """
    return getattr(layer, _ITSELF, None) is layer


def belongs_to(function: object, view: object, method: str) -> bool:
    """Whether a decorated function is the view itself, or a layer of it.

    :param view: the view that the application calls.
    :param method: the request's.
    """
    if getattr(view, _ITSELF, None) is function:
        return True
    # Some frameworks decorate a method again for each request.
    *_, inner = _unwrapped(function, load=False)
    return any(layer is function or layer is inner for layer in layers_of(view, method, load=True))


def was_decorated(layer: object) -> bool:
    """Whether the decorator was given this function."""
    return getattr(layer, _WAS_DECORATED, None) == id(layer)


def mark_placed(layer: object) -> None:
    """Note that Flask calls what the decorator made of this function, in some application.

    Another application may use the function without the decorator.
    """
    if was_decorated(layer):
        # The first requests of two threads may both come here.
        with suppress(AttributeError):
            delattr(layer, _WAS_DECORATED)


def methods_of(view: object) -> Collection[str]:
    """The methods that a class-based view has functions for; ``""`` for any other view."""
    return getattr(getattr(view, "view_class", None), "methods", None) or ("",)


def layers_of(view: object, method: str, *, load: bool = False) -> Iterator[object]:
    """A view and everything that it wraps, from the outside in.

    For a class-based view, also the class, its ``dispatch_request``, the decorators that
    resources of flask-restx and Flask-RESTful name in ``method_decorators``, and the function of a
    method. Looks through ``functools.wraps``, ``functools.partial``, bound methods and the
    ``LazyView`` of Flask's documentation.

    :param method: the request's, or one of ``methods_of``.
    :param load: whether to import a lazy view that no request has reached yet.
    """
    view_class = None
    for layer in _unwrapped(view, load):
        yield layer
        view_class = view_class or getattr(layer, "view_class", None)
    if view_class is not None:
        yield view_class
        yield from _unwrapped(getattr(view_class, "dispatch_request", None), load)
        yield from reversed(_method_decorators(view_class, method.lower()))
        yield from _unwrapped(getattr(view_class, method.lower(), None), load)


def _method_decorators(view_class: object, method: str) -> Sequence[object]:
    decorators = getattr(view_class, "method_decorators", ())
    # Flask-RESTful also takes a mapping of methods.
    return decorators.get(method, ()) if isinstance(decorators, Mapping) else decorators


def _unwrapped(layer: object, load: bool) -> Iterator[object]:
    while layer is not None:
        yield layer
        layer = _inner(layer, load)


def _inner(layer: object, load: bool) -> object:
    if isinstance(layer, partial):
        return layer.func
    if isinstance(layer, MethodType):
        return layer.__func__
    if isinstance(layer, FunctionType) or not hasattr(type(layer), "view"):
        return getattr(layer, "__wrapped__", None)
    # The attribute of a lazy view imports the view; once imported, it is in ``__dict__``.
    return getattr(layer, "view", None) if load else getattr(layer, "__dict__", {}).get("view")


def marks_of(view: object, method: str) -> list[Mapping[str, Any]]:
    """The marks of a view, each once, the nearest to the function that answers first."""
    marks: dict[int, Mapping[str, Any]] = {}
    for layer in layers_of(view, method, load=True):
        overrides = mark_of(layer)
        if overrides is not None:
            marks[id(overrides)] = overrides
    return list(reversed(marks.values()))
