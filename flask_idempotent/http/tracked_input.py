"""Tracked input: a server's input stream that keeps a copy of what is read from it.

The application reads from it as from the server's own stream. The library reads the whole body from
its first byte, whatever the application has read before, and leaves the application where it was.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge

from flask_idempotent.http.server_inputs import ClientSilentError, bytes_read, read_with_timeout
from flask_idempotent.http.spools import Spool
from flask_idempotent.http.werkzeug_compat import ParsedForm, cached_stream, source_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.wrappers import Request

#: Bytes that are read at once. gunicorn takes four times as long for chunks of 64 KiB.
CHUNK_SIZE = 1024 * 1024


class BytesMissingError(Exception):
    """Bytes of the body were read where they could not be copied, so they are lost."""


class TrackedInput:
    """A stream for ``wsgi.input`` that copies what is read from the server's stream.

    It refers neither to the request nor to its environment, which refer to it: in such a cycle a
    body of any size would stay in memory until the garbage collector runs.

    :param environ: the request's environment, whose ``wsgi.input`` it reads from.
    :param announced: the length of the body in bytes, where the request says it.
    :param already_read: the first bytes of the body, where they were read before and kept.
    :param bytes_missing: whether bytes were read before that were not kept.
    """

    #: Whether what the application reads is copied.
    _copies = True
    #: Whether the server's stream has failed, and whether the copy has the whole body.
    _failed = _complete = False
    #: The stream that the view reads a small body from, in the place of this one.
    _memory: IO[bytes] | None = None
    #: A form that a function of the application has parsed before the view.
    parsed_form: ParsedForm | None = None

    def __init__(
        self,
        environ: WSGIEnvironment,
        announced: int | None,
        already_read: bytes = b"",
        *,
        bytes_missing: bool = False,
    ) -> None:
        self._stream: IO[bytes] = environ["wsgi.input"]
        self._connection = environ.get("werkzeug.socket")
        self.announced = announced
        self._ends_itself = "wsgi.input_terminated" in environ
        self._spool = Spool(already_read)
        #: How many bytes the application has read.
        self._position = len(already_read)
        self._bytes_missing = bytes_missing

    def __getattr__(self, name: str) -> Any:
        # WebSocket libraries look for the server's socket behind its stream.
        return getattr(self._stream, name)

    # What the application calls.

    def read(self, size: int | None = -1, /) -> bytes:
        size = -1 if size is None else size
        data = self._spool.read(self._position, size)
        if not self._complete and len(data) != size:
            data += self._fetch(self._stream.read, size - len(data) if size > 0 else -1)
        self._position += len(data)
        return data

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
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

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
            if not self.read(min(CHUNK_SIZE, offset - self._position)):
                break

    def _fetch(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            data = read(size)
        except Exception:
            # A server's stream that has failed may look as if it had ended when it is read again.
            self._failed = True
            raise
        if self._copies:
            self._spool.append(data)
        elif data:
            self._bytes_missing = True
        return data

    # What the library calls.

    def chunks(self, limit: int | None) -> Iterator[bytes]:
        """Read the whole body from its first byte, whatever the application has read of it.

        :param limit: how many bytes the body may have; None for any number.
        :raises ClientDisconnected: when it is shorter than announced, or the server's stream fails.
        :raises RequestEntityTooLarge: when it is longer than ``limit``.
        :raises BytesMissingError: when bytes of it were read where they were not copied.
        """
        if self._bytes_missing:
            raise BytesMissingError
        if self._failed:
            raise ClientDisconnected
        self._copies = True
        spool, offset = self._spool, 0
        while offset < spool.size:
            chunk = spool.read(offset, CHUNK_SIZE)
            offset += len(chunk)
            yield chunk
        while limit is None or spool.size <= limit:
            if self._complete:
                return
            if chunk := self._read_chunk(limit):
                yield chunk
        raise RequestEntityTooLarge

    def _read_chunk(self, limit: int | None) -> bytes:
        """Read on from the server, at most one byte beyond the limit; empty at the end."""
        received, announced = self._spool.size, self.announced
        size = CHUNK_SIZE
        if not self._ends_itself:
            # Where nothing says how long the body is, Werkzeug treats it as empty.
            size = min(size, (announced or 0) - received)
        if limit is not None:
            size = min(size, limit + 1 - received)
        chunk = self._read_from_server(size) if size else b""
        if not chunk:
            self._on_end(received)
            return b""
        self._spool.append(chunk)
        if received + len(chunk) == announced and (len(chunk) < size or not self._ends_itself):
            # A stream that ends itself may be longer than announced, where a middleware has
            # replaced the server's; this one returned less than it was asked for.
            self._complete = True
        return chunk

    def _read_from_server(self, size: int) -> bytes:
        try:
            if self._connection is None:
                return self._stream.read(size)
            return read_with_timeout(self._connection, self._stream, size)
        except ClientSilentError:
            self._bytes_missing = True
            raise BytesMissingError from None
        except HTTPException:
            self._failed = True
            raise
        except Exception as error:
            self._failed = True
            raise ClientDisconnected from error

    def _on_end(self, received: int) -> None:
        if self.announced is not None and received < self.announced:
            read_by_all = bytes_read(self._stream)
            if read_by_all is not None and read_by_all > received:
                self._bytes_missing = True
                raise BytesMissingError
            raise ClientDisconnected
        self._complete = True

    def stop_copying(self, request: Request) -> None:
        """Stop copying, and let the view read a small body from memory, which is faster."""
        self._copies = False
        content = self._spool.in_memory() if self._complete else None
        environ = request.environ
        if content is None or environ["wsgi.input"] is not self:
            return
        if cached_stream(request) is not None:
            return
        self._memory = environ["wsgi.input"] = io.BytesIO(content)
        self._memory.seek(self._position)

    @contextmanager
    def at_first_byte(self, environ: WSGIEnvironment) -> Iterator[None]:
        """Let the application read the body from its first byte in the ``with`` block."""
        current, position = environ["wsgi.input"], self._position
        environ["wsgi.input"], self._position = self, 0
        try:
            yield
        finally:
            self._position = position
            if environ["wsgi.input"] is self:
                environ["wsgi.input"] = current

    def is_read_by(self, stream: object) -> bool:
        """Whether a stream is this one or reads from it, as Werkzeug's and that of a form do."""
        form = self.parsed_form
        sources = (self, self._memory, None if form is None else form.stream)
        return any(
            source is not None and (stream is source or source_of(stream) is source)
            for source in sources
        )
