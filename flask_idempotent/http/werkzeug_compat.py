"""What the library uses of Werkzeug that is private, undocumented or differs between its versions.

No other module touches these names. Flask's are in ``web/flask_compat.py``.

A request caches what was read of its body in its ``__dict__``: ``cached_property`` under the public
names, and ``get_data`` in ``_cached_data``.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import werkzeug.http
from werkzeug.datastructures import HeaderSet

if TYPE_CHECKING:
    from werkzeug.wrappers import Request


class ParsedForm(NamedTuple):
    """A form, as a request's parser returns it.

    :param fields: the fields.
    :param files: the files.
    :param stream: the request's stream, which has been read.
    """

    fields: Any
    files: Any
    stream: IO[bytes]


#: The attributes in which a request caches what was read of its body.
_CACHES = ("stream", "form", "files", "data", "values", "_cached_data")


def cached_stream(request: Request) -> Any:
    """The stream of the body, where ``request.stream`` was accessed before, or None."""
    return vars(request).get("stream")


def cached_data(request: Request) -> bytes | None:
    """The whole body, where ``get_data`` has read and cached it."""
    return vars(request).get("_cached_data")


def cached_form(request: Request) -> tuple[Any, Any]:
    """The fields and files of the form, where it was parsed, or None for both."""
    attributes = vars(request)
    return attributes.get("form"), attributes.get("files")


def forget_stream(request: Request) -> None:
    """Have the request make a new stream from ``wsgi.input`` at the next access."""
    vars(request).pop("stream", None)


def body_caches(request: Request) -> dict[str, Any]:
    """All that the request has cached of its body, by attribute; None where it has nothing."""
    attributes = vars(request)
    return {name: attributes.get(name) for name in _CACHES}


def restore_body_caches(
    request: Request, before: dict[str, Any], *, keep: Collection[str] = ()
) -> None:
    """Undo what was cached since ``body_caches`` was called.

    :param keep: the attributes that stay as they are now.
    """
    attributes = vars(request)
    for name in before.keys() - keep:
        attributes.pop(name, None)
        if before[name] is not None:
            attributes[name] = before[name]


def use_parsed_form(request: Request, form: ParsedForm) -> None:
    """Have a request use a form that was parsed before, instead of parsing its body.

    The form's files are closed with the request, even if the view never accesses them.
    """
    # A reference cycle would keep the request until the garbage collector runs.
    reference = weakref.ref(request)

    def load_form_data() -> None:
        request = reference()
        if request is not None and "form" not in vars(request):
            vars(request).update(stream=form.stream, form=form.fields, files=form.files)

    def close() -> None:
        request = reference()
        if request is not None:
            load_form_data()
            type(request).close(request)

    vars(request).update(_load_form_data=load_form_data, close=close)


def source_of(stream: object) -> object | None:
    """What a stream that Werkzeug limits to the body's length reads from."""
    return getattr(stream, "_stream", None)


def _header_set_parser() -> Callable[[str], HeaderSet]:
    # From Werkzeug 3.2 on the function is deprecated.
    from_header: Callable[[str], HeaderSet] | None = getattr(HeaderSet, "from_header", None)
    return werkzeug.http.parse_set_header if from_header is None else from_header


#: Parse a header that lists names, such as ``Vary``.
parse_header_set: Callable[[str], HeaderSet] = _header_set_parser()
