"""The decorator: ``@idempotent`` on a view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Any, Final, TypeVar, Unpack, overload

from flask import Flask, current_app, request, request_started

from flask_idempotent.bodies import watch
from flask_idempotent.errors import SettingsError
from flask_idempotent.handler import handle
from flask_idempotent.settings import Overrides, check_overrides
from flask_idempotent.state import EXTENSION, state_of

View = TypeVar("View", bound=Callable[..., Any])

_MARK: Final = "_idempotent"
#: What an exempt view is marked with, where a decorated one has its keywords.
EXEMPT: Final[Mapping[str, Any]] = MappingProxyType({"exempt": True})


class _Decorator:
    """The type of ``idempotent``."""

    @overload
    def __call__(self, view: View, /) -> View: ...

    @overload
    def __call__(self, /, **overrides: Unpack[Overrides]) -> Callable[[View], View]: ...

    def __call__(self, view: Any = None, /, **overrides: Any) -> Any:
        """Run a view once for each idempotency key.

        Every other request with the key, at the same moment or later, gets the first one's
        response. Used bare, ``@idempotent``, or with keywords, which win over the extension's and
        the application's: see the settings page for each. It stands below ``@app.route`` and
        below what checks who is asking; it goes on functions, async functions and
        ``MethodView.decorators``.

        :param timeout: how long a duplicate waits for the first: seconds or a timedelta.
        :param expire: how long the response is kept: seconds or a timedelta.
        :param lease: how long a claim outlives an owner that died: seconds or a timedelta.
        :raises SettingsError: on a wrong name, type or range.
        """
        if view is None:
            check_overrides(overrides)
            return lambda function: _protect(function, overrides)
        if not callable(view):
            raise SettingsError(
                f"@idempotent takes keywords, as in @idempotent(expire=240), not {view!r}"
            )
        return _protect(view, overrides)

    def exempt(self, view: View) -> View:
        """Leave a view alone that ``Idempotent(app)`` would protect.

        It stands directly below ``@app.route``.
        """
        setattr(view, _MARK, EXEMPT)
        return view


def _protect(view: Callable[..., Any], overrides: dict[str, Any]) -> Callable[..., Any]:
    @wraps(view)
    def protected(*args: Any, **kwargs: Any) -> Any:
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        state = state_of(app)

        def run() -> Any:
            return app.ensure_sync(view)(*args, **kwargs)

        return handle(state, state.settings(overrides), run)

    setattr(protected, _MARK, overrides)
    return protected


def own_overrides(view: object, method: str) -> Mapping[str, Any] | None:
    """The keywords of a view that is decorated, ``EXEMPT``, or None for one that is neither.

    :param method: the request's; of a class-based view one method may be decorated.
    """
    of_class = getattr(getattr(view, "view_class", None), method.lower(), None)
    found: Mapping[str, Any] | None = getattr(view, _MARK, getattr(of_class, _MARK, None))
    return found


@request_started.connect
def _watch_body(app: Flask, **_: object) -> None:
    # Functions of the application may read the body before the view's turn comes.
    view = app.view_functions.get(request.endpoint or "")
    own = own_overrides(view, request.method)
    if own is not EXEMPT and (own is not None or EXTENSION in app.extensions):
        watch(request.environ)


#: The decorator; its members are documented at ``__call__`` and ``exempt``.
idempotent: Final = _Decorator()
