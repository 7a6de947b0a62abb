"""Placement: what the decorators may be used on, and whether they have an effect there."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from types import MethodType
from typing import Any, NamedTuple

from flask import Blueprint, Flask
from flask.views import View

from flask_idempotent.errors import SettingsError
from flask_idempotent.web.marks import (
    EXEMPT,
    is_protecting,
    layers_of,
    mark_of,
    mark_placed,
    methods_of,
    was_decorated,
)
from flask_idempotent.web.routes import qualified_name, route_name


def check_view(view: object) -> None:
    """Refuse what ``@idempotent`` cannot protect.

    :raises SettingsError: saying what to do instead.
    """
    if isinstance(view, type):
        raise SettingsError(_ON_CLASS.format(view.__qualname__))
    if isinstance(view, Blueprint):
        raise SettingsError(_ON_BLUEPRINT.format(view.name))
    if isinstance(view, Flask):
        raise SettingsError(_ON_APPLICATION)
    if isinstance(view, staticmethod | classmethod):
        raise SettingsError(_ON_METHOD.format(type(view).__name__, "idempotent"))
    if not callable(view):
        raise SettingsError(_ON_SOMETHING.format(view))
    if mark_of(view) is EXEMPT:
        raise SettingsError(_BOTH.format(qualified_name(view)))


def check_exempt(view: object) -> None:
    """Refuse what ``idempotent.exempt`` cannot mark.

    :raises SettingsError: saying what to do instead.
    """
    if isinstance(view, staticmethod | classmethod):
        raise SettingsError(_ON_METHOD.format(type(view).__name__, "idempotent.exempt"))
    if isinstance(view, MethodType):
        raise SettingsError(_BOUND_METHOD.format(view.__func__.__qualname__))
    if not _takes_exemption(view):
        raise SettingsError(_NOTHING_TO_EXEMPT.format(view))
    if mark_of(view) not in (None, EXEMPT):
        if isinstance(view, Blueprint):
            raise SettingsError(_MARKED_BEFORE.format(view.name))
        raise SettingsError(_BOTH.format(qualified_name(view)))


def _takes_exemption(view: object) -> bool:
    if isinstance(view, type):
        return issubclass(view, View)
    if isinstance(view, Blueprint):
        return True
    # A builtin function has no place for a mark.
    return callable(view) and not isinstance(view, Flask) and hasattr(view, "__dict__")


def check_blueprint(blueprint: object, overrides: Mapping[str, Any]) -> None:
    """Refuse what ``idempotent.protect`` cannot protect.

    :raises SettingsError: saying what to do instead.
    """
    if not isinstance(blueprint, Blueprint):
        raise SettingsError(_NO_BLUEPRINT.format(blueprint))
    current = mark_of(blueprint)
    if current is EXEMPT or current not in (None, overrides):
        raise SettingsError(_MARKED_BEFORE.format(blueprint.name))


class Misplaced(NamedTuple):
    """A view that was decorated above its route, so that it is not protected.

    :param endpoint: its endpoint.
    :param view: its module and name.
    :param routes: the routes that it is registered for.
    """

    endpoint: str
    view: str
    routes: str

    @property
    def text(self) -> str:
        """What is wrong."""
        return (
            f"@idempotent protects nothing on {self.view} ({self.routes}): it is above the "
            "route, and Flask calls the undecorated function below it."
        )

    @property
    def fix(self) -> str:
        """What to do."""
        name = self.view.rpartition(".")[2]
        return (
            "Put @idempotent below @app.post, @app.route and the like. If this route is meant to "
            f"be unprotected, say so: idempotent.exempt({name})."
        )


def misplaced(app: Flask) -> Iterator[Misplaced]:
    """Find the views that were decorated above their routes."""
    _mark_placed(app)
    suspects = [
        (layer, endpoint)
        for endpoint, layer, below in _layers(app)
        if not below and was_decorated(layer) and mark_of(layer) is not EXEMPT
    ]
    if suspects:
        # A function that is a view with and without the decorator is meant to be both. The
        # application that has it decorated may have served no request yet. ``type()``, because
        # ``isinstance`` asks a proxy, which raises outside its context.
        for other in [item for item in gc.get_objects() if issubclass(type(item), Flask)]:
            _mark_placed(other)
    for endpoint in {endpoint: 0 for layer, endpoint in suspects if was_decorated(layer)}:
        routes = ", ".join(map(route_name, app.url_map.iter_rules(endpoint)))
        yield Misplaced(endpoint, qualified_name(app.view_functions[endpoint]), routes)


def _mark_placed(app: Flask) -> None:
    for _, layer, below in _layers(app):
        if below:
            mark_placed(layer)


def _layers(app: Flask) -> Iterator[tuple[str, object, bool]]:
    # Each layer of each view, and whether a decorated function is above it.
    for endpoint, view in app.view_functions.items():
        for method in methods_of(view):
            below = False
            for layer in layers_of(view, method):
                yield endpoint, layer, below
                below = below or is_protecting(layer)


def check_places(app: Flask) -> None:
    """Refuse an application with views that were decorated above their routes.

    :raises SettingsError: naming each of them.
    """
    errors = [f"{view.text} {view.fix}" for view in misplaced(app)]
    if errors:
        raise SettingsError("\n".join(errors))


_ON_CLASS = (
    "@idempotent goes on a view, not on the class {0}. To protect all methods of a MethodView, "
    "write decorators = [idempotent] in it; to protect one, decorate that method"
)
_ON_BLUEPRINT = (
    "@idempotent goes on a view, not on the blueprint {!r}: idempotent.protect(blueprint) protects "
    "every view of it"
)
_ON_APPLICATION = (
    "@idempotent goes on a view, not on an application: Idempotent(app) protects every view of it"
)
_ON_METHOD = "@{1} is above @{0}, where it has no effect: put it below, next to the function"
_ON_SOMETHING = "@idempotent goes on a view, alone or as in @idempotent(expire=240), not on {!r}"
_BOTH = (
    "{} is both decorated with @idempotent and exempt, which contradict each other: remove one of "
    "the two"
)
_NOTHING_TO_EXEMPT = (
    "idempotent.exempt takes a view, a class derived from flask.views.View, or a blueprint, not "
    "{!r}"
)
_BOUND_METHOD = (
    "idempotent.exempt cannot mark a bound method. Mark the function in its class instead: put "
    "@idempotent.exempt on the definition of {}"
)
_NO_BLUEPRINT = (
    "idempotent.protect takes a blueprint, not {!r}. A view is decorated with @idempotent, and "
    "Idempotent(app) protects a whole application"
)
_MARKED_BEFORE = (
    "the blueprint {!r} was exempted before, or protected with other keywords. Call "
    "idempotent.protect or idempotent.exempt once for it"
)
