"""Frameworks: how a decorated function works below the wrappers of REST frameworks.

flask-restx and Flask-RESTful serialise what a resource returns above all of its decorators, in
``Api.output``, and flask-smorest's ``etag`` reads what its other decorators noted below it. A
decorated function gives them a finished response, because that is what is kept and replayed. So the
framework's wrapper is put around the function a second time, below the check of the key: there it
makes the response, and above it lets the response pass.
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

RunView = Callable[[], Any]

_WITH_RESOURCES = frozenset({"flask_restful", "flask_restplus", "flask_restx"})
#: The qualified name of the function that ``Api.output`` returns.
_OUTPUT = "Api.output.<locals>.wrapper"
#: Qualified names of decorators that serialise a value and pass a response through: of their
#: functions, or of their types where a class has them in a list.
_SERIALISERS = re.compile(
    r"(?:^|\.)(marshal_(?:list_)?with(?:_field)?)\b"
    r"|^(?:ResponseMixin|APIScaffold)\.(response|output)\.<locals>\."
)
#: The attribute of ``flask.g`` in which flask-smorest's decorators keep their notes.
_SMOREST_NOTES = "_flask_smorest"


class Framework(NamedTuple):
    """What a decorated function does below a framework.

    :param wrap: wraps the function so that it returns the framework's response.
    :param hand_over: gives a response to the framework above in the way that it expects.
    """

    wrap: Callable[[RunView], RunView]
    hand_over: Callable[[Response], Response]


def framework_above(
    view: Any, method: str, blueprint: Any, overrides: Mapping[str, Any]
) -> Framework | None:
    """Find the framework above a decorated function, where it matters.

    :param view: the view that the application calls.
    :param method: the method of the request.
    :param blueprint: the blueprint of the view.
    :param overrides: the keywords of the function's decorator.
    :raises SettingsError: when something above cannot work with a finished response.
    """
    above, decorated = _layers_above(view, method, overrides)
    view_class = getattr(view, "view_class", None)
    if decorated is not None:
        _check_serialisers(above, view_class or view)
    if view_class is not None and _is_resource(view_class):
        on_method = decorated is not None and view_class in above
        return _below_api(above, view_class, on_method=on_method)
    if decorated is None or _has_etag(decorated):
        return None
    if any(map(_has_etag, above)):
        return Framework(blueprint.etag, _hand_over_to_etag)
    return None


def _check_serialisers(layers: Sequence[object], view: Any) -> None:
    for layer in layers:
        serialiser = _SERIALISERS.search(_code_name(layer) or type(layer).__qualname__)
        if serialiser:
            name = getattr(view, "__qualname__", view)
            raise SettingsError(_SERIALISED_ABOVE.format(name, serialiser[1] or serialiser[2]))


def _layers_above(
    view: object, method: str, overrides: Mapping[str, Any]
) -> tuple[Sequence[object], object]:
    above: list[object] = []
    for layer in layers_of(view, method):
        if is_protecting(layer) and mark_of(layer) is overrides:
            return above, layer
        above.append(layer)
    # The function is called by the view, or hidden by another decorator.
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
    # functools.wraps copies __qualname__, but the code object keeps its own name.
    return layer.__code__.co_qualname if isinstance(layer, FunctionType) else ""


def _api_of(output: Any) -> Any:
    cells = dict(zip(output.__code__.co_freevars, output.__closure__, strict=True))
    return cells["self"].cell_contents


def _has_etag(layer: object) -> bool:
    return bool(isinstance(layer, FunctionType) and getattr(layer, "_apidoc", {}).get("etag"))


def _hand_over_to_etag(response: Response) -> Response:
    if response.status_code >= 400:
        # An error gets no ETag. Flask answers this exception with the response in it.
        raise HTTPException(response=response)
    notes = g.setdefault(_SMOREST_NOTES, {})
    notes["etag"] = {"etag": response.get_etag()[0], "etag_checked": True}
    notes.setdefault("result_dump", response.get_json(silent=True))
    return response


_SERIALISED_ABOVE = (
    "{0} has @{1} above @idempotent, which returns a finished response that @{1} cannot "
    "serialise. Put @idempotent above @{1}"
)
_INSTEAD = "Put @idempotent above the Api instead: Api(decorators=[idempotent])"
_REPRESENTATIONS = (
    "the resource {0} has representations, which are made above @idempotent. " + _INSTEAD
)
_NO_API = (
    "what the resource {0} returns is serialised above @idempotent, in a way that is not known. "
    + _INSTEAD
)
