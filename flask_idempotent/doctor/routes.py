"""How findings name routes."""

from __future__ import annotations

from collections.abc import Sequence

from flask_idempotent.policy import ProtectedRoute
from flask_idempotent.web.routes import requests_name

Routes = Sequence[ProtectedRoute]

_SHOWN = 5


def named(route: ProtectedRoute) -> str:
    """Write a route as the method and the path of its requests."""
    return requests_name(route.methods, route.rule.rule)


def listed(names: Sequence[str], routes: Routes = ()) -> str:
    """Write which routes a finding applies to: the first few of them.

    :param routes: all routes that it could apply to. If it applies to all, none is named.
    """
    if len(names) == len(routes):
        return "This applies to every protected route."
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"This applies to {', '.join(names[:_SHOWN])}{more}."
