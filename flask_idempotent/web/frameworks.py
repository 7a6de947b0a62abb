"""Frameworks: what REST frameworks do above a decorated function, and how it works with them.

flask-restx and Flask-RESTful write what a resource returns above all of its decorators, in
``Api.output``, and flask-smorest's ``etag`` reads what its other decorators noted below. What they
get from a decorated function is a finished response, because that is what is kept and replayed. So
the framework's own wrapper is put around the function once more, below the check of the key: the
framework makes the response, and its wrapper above lets the response pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple

from flask import g
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from flask_idempotent.errors import SettingsError
from flask_idempotent.web.marks import is_protecting, layers_of, mark_of

Run = Callable[[], Any]

_WITH_RESOURCES = frozenset({"flask_restful", "flask_restplus", "flask_restx"})
#: The function that ``Api.output`` makes of the view of a resource.
_OUTPUT = "Api.output.<locals>.wrapper"
#: Decorators that write a value, and have nothing to write of a response: by their functions, or
#: by their types where a class has them in a list.
_WRITERS = re.compile(
    r"(?:^|\.)(marshal_(?:list_)?with(?:_field)?)\b"
    r"|^(?:ResponseMixin|APIScaffold)\.(response|output)\.<locals>\."
)
#: Where flask-smorest's decorators keep their notes, in ``flask.g``.
_NOTES = "_flask_smorest"


class Framework(NamedTuple):
    """What a decorated function does below a framework.

    :param wrap: makes of a function one that returns what the framework would make of its value.
    :param hand_over: returns a response in the way that the framework above expects.
    """

    wrap: Callable[[Run], Run]
    hand_over: Callable[[Response], Response]


def framework_above(
    view: Any, method: str, blueprint: Any, overrides: Mapping[str, Any]
) -> Framework | None:
    """Find the framework above a decorated function, where that makes a difference.

    :param view: the view that the application calls.
    :param method: the request's.
    :param blueprint: the view's.
    :param overrides: the keywords of the function's decorator.
    :raises SettingsError: when something above cannot work with a finished response.
    """
    above, own = _layers_above(view, method, overrides)
    view_class = getattr(view, "view_class", None)
    if own is not None:
        _check_writers(above, view_class or view)
    if view_class is not None and _is_resource(view_class):
        return _below_api(above, view_class, on_method=own is not None and view_class in above)
    if own is not None and not _has_etag(own) and any(map(_has_etag, above)):
        return Framework(blueprint.etag, _hand_over_to_etag)
    return None


def _check_writers(layers: Sequence[object], view: Any) -> None:
    for layer in layers:
        found = _WRITERS.search(_code_name(layer) or type(layer).__qualname__)
        if found:
            name = getattr(view, "__qualname__", view)
            raise SettingsError(_WRITTEN_ABOVE.format(name, found[1] or found[2]))


def _layers_above(
    view: object, method: str, overrides: Mapping[str, Any]
) -> tuple[Sequence[object], object]:
    above: list[object] = []
    for layer in layers_of(view, method):
        if is_protecting(layer) and mark_of(layer) is overrides:
            return above, layer
        above.append(layer)
    # A function that the view calls, or one that another decorator hides.
    return above, None


def _is_resource(view_class: type) -> bool:
    modules = (base.__module__.partition(".")[0] for base in view_class.__mro__)
    return not _WITH_RESOURCES.isdisjoint(modules)


def _below_api(above: Sequence[object], view_class: Any, *, on_method: bool) -> Framework | None:
    if on_method and view_class.representations:
        raise SettingsError(_REPRESENTATIONS.format(view_class.__qualname__))
    for layer in above:
        if _code_name(layer).endswith(_OUTPUT):
            return Framework(_api_of(layer).output, lambda response: response)
    if on_method:
        raise SettingsError(_NO_API.format(view_class.__qualname__))
    # Api(decorators=[idempotent]) stands above it.
    return None


def _code_name(layer: object) -> str:
    # functools.wraps hides who made a function, but not in its code.
    return layer.__code__.co_qualname if isinstance(layer, FunctionType) else ""


def _api_of(output: Any) -> Any:
    cells = dict(zip(output.__code__.co_freevars, output.__closure__, strict=True))
    return cells["self"].cell_contents


def _has_etag(layer: object) -> bool:
    return bool(isinstance(layer, FunctionType) and getattr(layer, "_apidoc", {}).get("etag"))


def _hand_over_to_etag(response: Response) -> Response:
    if response.status_code >= 400:
        # An error gets no ETag. Flask takes this exception for the response in it.
        raise HTTPException(response=response)
    notes = g.setdefault(_NOTES, {})
    notes["etag"] = {"etag": response.get_etag()[0], "etag_checked": True}
    notes.setdefault("result_dump", response.get_json(silent=True))
    return response


_WRITTEN_ABOVE = (
    "{0} has @{1} above @idempotent, which hands over a finished response, of which @{1} writes "
    "nothing. Put @idempotent above @{1}"
)
_INSTEAD = "Let @idempotent stand above the Api instead: Api(decorators=[idempotent])"
_REPRESENTATIONS = (
    "the resource {0} has representations of its own, which are made above @idempotent. " + _INSTEAD
)
_NO_API = (
    "what the resource {0} returns is written above @idempotent, and it cannot be seen how. "
    + _INSTEAD
)
