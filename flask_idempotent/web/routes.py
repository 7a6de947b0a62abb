"""Routes: the routes of an application with what protects each, and how messages name them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from flask_idempotent._http_semantics import UNTRACKED_METHODS
from flask_idempotent.web.marks import is_protecting, layers_of

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.routing import Rule

    from flask_idempotent.web.protection import Protection, Protections


class Route(NamedTuple):
    """A route with those of its methods that are protected in the same way."""

    rule: Rule
    methods: tuple[str, ...]
    protection: Protection


def routes_of(app: Flask, protections: Protections) -> Iterator[Route]:
    """All routes that have views, by path; one appears more than once where its methods differ."""
    rules = (rule for rule in app.url_map.iter_rules() if rule.endpoint in app.view_functions)
    for rule in sorted(rules, key=lambda rule: rule.rule):
        groups: dict[tuple[object, ...], list[str]] = {}
        for method in sorted(rule.methods or ()):
            protection = protections.of(rule.endpoint, method)
            differences = (
                protection.kind, protection.source, protection.claims, id(protection.settings),
            )  # fmt: skip
            groups.setdefault(differences, []).append(method)
        for methods in groups.values():
            yield Route(rule, tuple(methods), protections.of(rule.endpoint, methods[0]))


def decorated_routes(
    app: Flask, protections: Protections
) -> Iterator[tuple[Rule, str, Protection]]:
    """The routes of decorated views, once for each method.

    Lazy views that no request has reached are left out: reading their marks would import them.
    """
    for rule in app.url_map.iter_rules():
        view = app.view_functions.get(rule.endpoint)
        for method in rule.methods or ():
            if any(map(is_protecting, layers_of(view, method))):
                yield rule, method, protections.of(rule.endpoint, method)


def qualified_name(view: Any) -> str:
    """The module and the name of a view."""
    view = getattr(view, "view_class", view)
    # A functools.partial has no name.
    return f"{view.__module__}.{getattr(view, '__qualname__', type(view).__qualname__)}"


def route_name(rule: Rule) -> str:
    """The methods and the path of a route, such as ``POST /orders``."""
    return requests_name(sorted((rule.methods or set()) - UNTRACKED_METHODS), rule.rule)


def requests_name(methods: Iterable[str], path: str) -> str:
    """Requests with these methods to a path, such as ``POST/PUT /orders``."""
    return f"{'/'.join(methods)} {path}"
