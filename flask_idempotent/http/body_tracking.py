"""Body tracking: all bytes of a body are compared, even those that were read before.

From the start of a request that may carry a key, a ``TrackedInput`` takes the place of the server's
input stream. When the key is checked, the library reads the rest of the body, and the fingerprint
covers all of it. The application reads on from where it was, as if the library had read nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar

from werkzeug.datastructures import iter_multi_items

from flask_idempotent._environ import TRACKED_INPUT
from flask_idempotent.http.server_inputs import (
    announced_length,
    bytes_left,
    bytes_read,
    is_partly_read,
)
from flask_idempotent.http.tracked_input import TrackedInput
from flask_idempotent.http.werkzeug_compat import (
    ParsedForm,
    body_caches,
    cached_data,
    cached_form,
    cached_stream,
    forget_stream,
    restore_body_caches,
    source_of,
    use_parsed_form,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.wrappers import Request

Result = TypeVar("Result")


def track(request: Request) -> TrackedInput:
    """Copy what is read of a request's body from now on."""
    environ = request.environ
    source = environ["wsgi.input"]
    outer: TrackedInput | None = environ.get(TRACKED_INPUT)
    if outer is not None and outer.is_read_by(source):
        # The request's view calls another application with the same environment.
        return outer
    already_read = cached_data(request)
    announced = announced_length(environ)
    bytes_missing = _are_bytes_missing(environ, announced, cached_stream(request), already_read)
    if not bytes_missing:
        # A stream that was created and not read yet would bypass the copy.
        forget_stream(request)
    tracked = TrackedInput(environ, announced, already_read or b"", bytes_missing=bytes_missing)
    environ[TRACKED_INPUT] = environ["wsgi.input"] = tracked
    return tracked


def is_tracked(request: Request) -> bool:
    """Whether ``track`` was called for a request."""
    return TRACKED_INPUT in request.environ


def tracked_input(request: Request) -> TrackedInput:
    """The tracked input of a request, which is tracked from now on if it was not before."""
    tracked: TrackedInput | None = request.environ.get(TRACKED_INPUT)
    return track(request) if tracked is None else tracked


def _are_bytes_missing(
    environ: WSGIEnvironment, announced: int | None, stream: Any, already_read: bytes | None
) -> bool:
    """Whether bytes were read that cannot be had again, as far as the stream shows it."""
    source = environ["wsgi.input"]
    if already_read is None and stream is not None and stream is not source:
        return source_of(stream) is not source or stream.tell() > 0
    if announced is None:
        ends_itself = "wsgi.input_terminated" in environ
        return ends_itself and (already_read is not None or is_partly_read(source))
    if already_read is None and stream is not None:
        return bytes_left(source) != announced and bytes_read(source) != 0
    # Other missing bytes show at the end, when the body is shorter than announced.
    left = bytes_left(source)
    return left is not None and left + len(already_read or b"") < announced


def call_with_body(request: Request, function: Callable[[Request], Result]) -> Result:
    """Call a function of the application that may read the body, and undo what it read.

    The view must not notice the call, which only the library makes. The function reads the body
    from its first byte, also where the application has read some of it before.
    """
    tracked, stream = tracked_input(request), cached_stream(request)
    environ = request.environ
    if not tracked.is_read_by(environ["wsgi.input"]):
        return function(request)
    if stream is not None and not tracked.is_read_by(stream):
        # The application has set a stream of its own, such as one that decompresses.
        return function(request)
    before = body_caches(request)
    positions = _file_positions(before["files"])
    forget_stream(request)
    try:
        with tracked.at_first_byte(environ):
            return function(request)
    finally:
        _restore(request, tracked, before)
        form = tracked.parsed_form
        _rewind(before["files"] or (form and form.files), positions)


def _restore(request: Request, tracked: TrackedInput, before: dict[str, Any]) -> None:
    fields, files = cached_form(request)
    stream = cached_stream(request)
    # The function may have given the request a stream of its own.
    keep = () if stream is None or tracked.is_read_by(stream) else ("stream",)
    restore_body_caches(request, before, keep=keep)
    if files and before["files"] is None:
        # The view must not parse the form again: an application's own upload streams, to a bucket
        # for example, may accept each file only once.
        tracked.parsed_form = ParsedForm(fields, files, BytesIO())
        use_parsed_form(request, tracked.parsed_form)


def _file_positions(files: Any) -> dict[int, int | None]:
    """The position of each file of a form by its id; None where the file has none."""
    positions: dict[int, int | None] = {}
    for _, file in iter_multi_items(files or ()):
        positions[id(file)] = None
        with suppress(Exception):
            positions[id(file)] = file.stream.tell()
    return positions


def _rewind(files: Any, positions: dict[int, int | None]) -> None:
    """Set files to their positions, and those without one to their beginning."""
    for _, file in iter_multi_items(files or ()):
        position = positions.get(id(file), 0)
        # An application's own upload stream may be write-only.
        with suppress(Exception):
            if position is not None:
                file.stream.seek(position)
