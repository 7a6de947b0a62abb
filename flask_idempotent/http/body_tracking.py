"""Body tracking: the bytes of a request's body, whoever reads them.

From the beginning of a request that may carry a key, a stream stands before the server's and keeps
a copy of what is read. When the key is checked, the rest is read into the copy too, and the
fingerprint covers all that came. Whoever reads goes on where they were, as if nobody had looked.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, TypeVar

from werkzeug.datastructures import iter_multi_items
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge

from flask_idempotent._environ import TRACKED_INPUT
from flask_idempotent.http.server_inputs import (
    ClientSilentError,
    announced_length,
    bytes_given,
    bytes_left,
    has_begun,
    read_patiently,
)
from flask_idempotent.http.spools import Spool
from flask_idempotent.http.werkzeug_compat import (
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
    from _typeshed import WriteableBuffer
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.wrappers import Request

#: Bytes that are read at once: gunicorn takes four times as long for pieces of 64 KiB.
PIECE_SIZE = 1024 * 1024

Answer = TypeVar("Answer")


class BodyTakenError(Exception):
    """Bytes of the body were read where they could not be copied, so nobody knows them."""


class TrackedInput:
    """A server's stream that keeps a copy of what it gave.

    It refers neither to the request nor to its environment, which refer to it: a cycle would keep
    a body of any size until the garbage collector comes by.

    :param environ: the request's environment.
    :param announced: the length of the body in bytes, where the request says it.
    :param known: the bytes that were read before, where they are known.
    :param taken: whether others were read that are not.
    """

    #: Whether what the application reads is copied.
    _copies = True
    #: Whether the server broke off, and whether all of the body is in the copy.
    _failed = _complete = False
    #: What the view reads of a small body.
    _handed: IO[bytes] | None = None
    #: The files that a function of the application has parsed, for the view to find.
    _parsed_files: Any = None
    #: The stream of a request that was given a form that was parsed before.
    _spent: IO[bytes] | None = None

    def __init__(
        self,
        environ: WSGIEnvironment,
        announced: int | None,
        known: bytes = b"",
        *,
        taken: bool = False,
    ) -> None:
        self._stream: IO[bytes] = environ["wsgi.input"]
        self._connection = environ.get("werkzeug.socket")
        self.announced = announced
        self._ends_itself = "wsgi.input_terminated" in environ
        self._spool = Spool(known)
        #: How far the application has read.
        self._position = len(known)
        self._taken = taken

    def __getattr__(self, name: str) -> Any:
        # WebSocket libraries look for the server's socket behind its stream.
        return getattr(self._stream, name)

    # What the application reads.

    def read(self, size: int | None = -1, /) -> bytes:
        size = -1 if size is None else size
        known = self._spool.read(self._position, size)
        if not self._complete and len(known) != size:
            known += self._fetch(self._stream.read, size - len(known) if size > 0 else -1)
        self._position += len(known)
        return known

    def readline(self, size: int | None = -1, /) -> bytes:
        size = -1 if size is None else size
        line = self._spool.readline(self._position, size)
        if not (self._complete or len(line) == size or line.endswith(b"\n")):
            line += self._fetch(self._stream.readline, size - len(line) if size > 0 else -1)
        self._position += len(line)
        return line

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        lines, left = [], hint if hint and hint > 0 else sys.maxsize
        while left > 0 and (line := self.readline()):
            lines.append(line)
            left -= len(line)
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        piece = self.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def seekable(self) -> bool:
        seekable = getattr(self._stream, "seekable", None)
        return bool((self._copies or self._complete) and seekable and seekable())

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if not self.seekable():
            raise io.UnsupportedOperation("seek")
        if whence == io.SEEK_END:
            self._read_to(sys.maxsize)
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._spool.size}[whence]
        self._read_to(start + offset)
        self._position = max(0, start + offset)
        return self._position

    def _read_to(self, offset: int) -> None:
        while self._spool.size < offset:
            self._position = self._spool.size
            if not self.read(min(PIECE_SIZE, offset - self._position)):
                break

    def _fetch(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            piece = read(size)
        except Exception:
            # A server that broke off once may say later that this was the end.
            self._failed = True
            raise
        if self._copies:
            self._spool.append(piece)
        elif piece:
            self._taken = True
        return piece

    # What the library reads.

    def pieces(self, limit: int | None) -> Iterator[bytes]:
        """All bytes that came, from the first on, whatever the application has read of them.

        :param limit: how long the body may be in bytes.
        :raises ClientDisconnected: when it is shorter than announced, or broke off.
        :raises RequestEntityTooLarge: when it is longer than ``limit``.
        :raises BodyTakenError: when some of its bytes were read where they were not copied.
        """
        if self._taken:
            raise BodyTakenError
        if self._failed:
            raise ClientDisconnected
        self._copies = True
        spool, offset = self._spool, 0
        while offset < spool.size:
            piece = spool.read(offset, PIECE_SIZE)
            offset += len(piece)
            yield piece
        while limit is None or spool.size <= limit:
            if self._complete:
                return
            if piece := self._next(limit):
                yield piece
        raise RequestEntityTooLarge

    def _next(self, limit: int | None) -> bytes:
        """Read on from the server, at most a byte beyond the limit; at the end, give nothing."""
        size, announced = self._spool.size, self.announced
        wanted = PIECE_SIZE
        if not self._ends_itself:
            # Where nobody knows where it ends, Werkzeug takes it for empty.
            wanted = min(wanted, (announced or 0) - size)
        if limit is not None:
            wanted = min(wanted, limit + 1 - size)
        piece = self._read_from_server(wanted) if wanted else b""
        if not piece:
            self._end(size)
            return b""
        self._spool.append(piece)
        if size + len(piece) == announced and (len(piece) < wanted or not self._ends_itself):
            # A stream that ends itself may be longer than announced, where a middleware has
            # replaced it; this one gave less than it was asked for.
            self._complete = True
        return piece

    def _read_from_server(self, size: int) -> bytes:
        try:
            if self._connection is None:
                return self._stream.read(size)
            return read_patiently(self._connection, self._stream, size)
        except ClientSilentError:
            self._taken = True
            raise BodyTakenError from None
        except HTTPException:
            self._failed = True
            raise
        except Exception as error:
            self._failed = True
            raise ClientDisconnected from error

    def _end(self, size: int) -> None:
        if self.announced is not None and size < self.announced:
            given = bytes_given(self._stream)
            if given is not None and given > size:
                self._taken = True
                raise BodyTakenError
            raise ClientDisconnected
        self._complete = True

    def hand_over(self, request: Request) -> None:
        """Copy no more, and let the view read a small body from memory, which takes fewer steps."""
        self._copies = False
        content = self._spool.in_memory() if self._complete else None
        environ = request.environ
        if content is None or environ["wsgi.input"] is not self:
            return
        if cached_stream(request) is not None:
            return
        self._handed = environ["wsgi.input"] = io.BytesIO(content)
        self._handed.seek(self._position)

    def show(self, request: Request, function: Callable[[Request], Answer]) -> Answer:
        """Call a function of the application that may read the body, and put back what it read.

        Without the library it would not be called, so the view must not notice. It is given the
        body from its first byte on, also where somebody has read it before.
        """
        environ = request.environ
        current, stream = environ["wsgi.input"], cached_stream(request)
        if not self.reads_here(current) or not (stream is None or self.reads_here(stream)):
            # The application has put a stream of its own there, which is what it wants to read.
            return function(request)
        position, before = self._position, body_caches(request)
        files = _positions(before["files"])
        forget_stream(request)
        environ["wsgi.input"], self._position = self, 0
        try:
            return function(request)
        finally:
            self._position = position
            if environ["wsgi.input"] is self:
                environ["wsgi.input"] = current
            self._restore(request, before)
            _rewind(before["files"] or self._parsed_files, files)

    def _restore(self, request: Request, before: dict[str, Any]) -> None:
        form, files = cached_form(request)
        stream = cached_stream(request)
        # The function may have put a stream of its own there.
        keep = () if stream is None or self.reads_here(stream) else ("stream",)
        restore_body_caches(request, before, keep=keep)
        if files and before["files"] is None:
            # An application's own upload streams may be such that each file can be sent once.
            self._parsed_files, self._spent = files, io.BytesIO()
            use_parsed_form(request, form, files, self._spent)

    def reads_here(self, stream: object) -> bool:
        """Whether a stream is this one, or Werkzeug's around it."""
        own = [known for known in (self, self._handed, self._spent) if known is not None]
        return any(stream is known or source_of(stream) is known for known in own)


def track(request: Request) -> TrackedInput:
    """Copy from now on what is read of a request's body."""
    environ = request.environ
    source = environ["wsgi.input"]
    outer: TrackedInput | None = environ.get(TRACKED_INPUT)
    if outer is not None and outer.reads_here(source):
        # An application that is mounted in a view of another one.
        return outer
    known = cached_data(request)
    announced = announced_length(environ)
    taken = _is_taken(environ, announced, cached_stream(request), known)
    if not taken:
        # Where it is there but unread, it would go on reading past the copy.
        forget_stream(request)
    made = TrackedInput(environ, announced, known or b"", taken=taken)
    environ[TRACKED_INPUT] = environ["wsgi.input"] = made
    return made


def is_tracked(request: Request) -> bool:
    """Whether ``track`` was called for a request."""
    return TRACKED_INPUT in request.environ


def tracked(request: Request) -> TrackedInput:
    """The tracked input of a request; where it was not tracked before, it is from now on."""
    found: TrackedInput | None = request.environ.get(TRACKED_INPUT)
    return track(request) if found is None else found


def _is_taken(
    environ: WSGIEnvironment, announced: int | None, stream: Any, known: bytes | None
) -> bool:
    """Whether bytes were read before that nobody has any more, as far as can be seen now."""
    source = environ["wsgi.input"]
    if known is None and stream is not None and stream is not source:
        return source_of(stream) is not source or stream.tell() > 0
    if announced is None:
        return "wsgi.input_terminated" in environ and (known is not None or has_begun(source))
    if known is None and stream is not None:
        return bytes_left(source) != announced and bytes_given(source) != 0
    # What else was taken turns out when the body is shorter than announced.
    left = bytes_left(source)
    return left is not None and left + len(known or b"") < announced


def _positions(files: Any) -> dict[int, int | None]:
    """Where each file of a form stands; None where it cannot say so."""
    positions: dict[int, int | None] = {}
    for _, file in iter_multi_items(files or ()):
        positions[id(file)] = None
        with suppress(Exception):
            positions[id(file)] = file.stream.tell()
    return positions


def _rewind(files: Any, positions: dict[int, int | None]) -> None:
    """Set files where they stood, and to their beginning those that were not there."""
    for _, file in iter_multi_items(files or ()):
        position = positions.get(id(file), 0)
        # An application's own stream may be for writing only.
        with suppress(Exception):
            if position is not None:
                file.stream.seek(position)
