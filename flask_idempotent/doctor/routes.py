"""How findings name routes."""

from __future__ import annotations

from collections.abc import Sequence

from flask_idempotent.policy import ProtectedRoute

Routes = Sequence[ProtectedRoute]

_SHOWN = 5


def named(route: ProtectedRoute) -> str:
    """Write a route as its requests begin."""
    return f"{'/'.join(route.methods)} {route.rule.rule}"


def listed(names: Sequence[str], routes: Routes = ()) -> str:
    """Write where a finding holds: of many routes the first few.

    :param routes: those it might hold for; where it does for all of them, none is named.
    """
    if len(names) == len(routes):
        return "It is so for every protected route."
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"It is so for {', '.join(names[:_SHOWN])}{more}."
