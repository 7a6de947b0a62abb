"""Bodies: reading a request's body whole before its view does, and leaving it untouched.

The key may stand in a form and the fingerprint covers the body, so both are read first. What is
read goes into a buffer, on disk when it is large, which takes the place of the server's stream:
the view sees the request as if nobody had looked.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge
from werkzeug.wsgi import get_content_length

from flask_idempotent.problems import BodyIncomplete

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.datastructures import FileStorage
    from werkzeug.wrappers import Request

#: A larger body is kept in a temporary file.
SPOOL_SIZE = 512 * 1024
PIECE_SIZE = 64 * 1024
FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})

Form = tuple["MultiDict[str, str]", "MultiDict[str, FileStorage]"]


#: Where a request's environment holds its watched stream, whoever wraps that.
_WATCHED = "flask_idempotent.input"


class Watched(io.RawIOBase):
    """A server's stream that knows what it gave, whoever read it.

    :param stream: the server's stream, of which WSGI promises ``read`` and ``readline``.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        #: How many octets were read.
        self.given = 0
        #: Whether a reader met the end.
        self.ended = False

    def __getattr__(self, name: str) -> Any:
        # WebSocket libraries look for the server's socket behind its stream.
        return getattr(self._stream, name)

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        size = -1 if size is None else size
        return self._note(self._stream.read(size), size, ends=size < 0)

    def readline(self, size: int | None = -1, /) -> bytes:
        size = -1 if size is None else size
        return self._note(self._stream.readline(size), size, ends=False)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        piece = self.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def _note(self, piece: bytes, size: int, *, ends: bool) -> bytes:
        self.given += len(piece)
        self.ended = self.ended or ends or (size != 0 and not piece)
        return piece


def watch(environ: WSGIEnvironment) -> None:
    """Note what the server's stream gives, before anybody reads it."""
    environ[_WATCHED] = environ["wsgi.input"] = Watched(environ["wsgi.input"])


class Body:
    """The body of one request.

    :param request: the request; ``buffer`` replaces its input stream.
    :param limit: how many octets the application takes.
    """

    #: Whether ``form`` found that the octets are none; then it is empty, as the view's is.
    malformed = False

    def __init__(self, request: Request, limit: int | None) -> None:
        self._request = request
        self._limit = limit
        self._buffer: IO[bytes] | None = None
        # Werkzeug's own property parses the parameters too, for which only forms have a use.
        content_type = request.environ.get("CONTENT_TYPE", "")
        #: Type and subtype in lower case, without parameters.
        self.mimetype = content_type.partition(";")[0].strip(" \t").lower()
        #: Whether it is a form, which may carry the key.
        self.is_form = self.mimetype in FORM_TYPES

    def buffer(self, problem_base: str) -> None:
        """Read the body whole.

        :raises BodyIncomplete: when it is shorter than announced, or broke off.
        :raises RequestEntityTooLarge: when it is longer than the application allows.
        """
        if self._buffer is not None:
            return
        try:
            if self._already_read():
                _check_what_was_read(self._request, self._limit)
                return
            self._buffer = self._request.environ["wsgi.input"] = _read(self._request, self._limit)
        except ClientDisconnected:
            raise BodyIncomplete(
                "The request's body ended before its announced end. Send the request again.",
                base=problem_base,
            ) from None

    def _already_read(self) -> bool:
        # By a before_request function: CSRF protection parses forms, signature checks read data.
        state = self._request.__dict__
        if "_cached_data" in state:
            return True
        if "form" in state:
            # Looking for fields in another type of body leaves its stream unread.
            return self.is_form
        watched = self._request.environ.get(_WATCHED)
        return "stream" in state and (watched is None or watched.given > 0)

    def _rewind(self) -> None:
        assert self._buffer is not None
        self._buffer.seek(0)
        self._request.environ["wsgi.input"] = self._buffer

    def pieces(self) -> Iterator[bytes]:
        """The octets of a body that is no form, a piece at a time."""
        if self._buffer is None:
            yield getattr(self._request, "_cached_data", b"")
        elif isinstance(self._buffer, io.BytesIO):
            yield self._buffer.getvalue()
        else:
            yield from read_pieces(self._buffer)
            self._rewind()

    def mentions(self, field: str) -> bool:
        """Say whether a form's octets may hold this field; quick, sometimes a false yes."""
        if self._buffer is None:
            return True
        name, seen = field.encode(), b""
        try:
            for piece in read_pieces(self._buffer):
                seen = seen[-len(name) :] + piece
                if name in seen or b"%" in seen or b"+" in seen:
                    return True
            return False
        finally:
            self._rewind()

    @contextmanager
    def form(self) -> Iterator[Form]:
        """The fields and files of a form, in the order of their names' first appearance."""
        request = self._request
        if self._buffer is None:
            yield request.form, request.files
            return
        parser = request.make_form_data_parser()
        parser.silent = False
        try:
            _, fields, files = parser.parse(
                self._buffer, self.mimetype, request.content_length, request.mimetype_params
            )
        except ValueError:
            self.malformed = True
            fields, files = MultiDict(), MultiDict()
        try:
            yield fields, files
        finally:
            for _, file in files.items(multi=True):
                file.close()
            self._rewind()


class _Buffer(tempfile.SpooledTemporaryFile[bytes]):
    """Ends with its last reader, which may be a response that streams after the request's end."""

    def __del__(self) -> None:
        self.close()


def _check_what_was_read(request: Request, limit: int | None) -> None:
    # gunicorn ends the stream of a client that goes away without an error, and Werkzeug cuts a
    # chunked body that is read at once: a before_request function may have got half a body.
    watched = request.environ.get(_WATCHED)
    if watched is None:
        return
    announced = _announced(request.environ)
    if announced is not None:
        if watched.ended and watched.given < announced:
            raise ClientDisconnected
    elif limit is not None and watched.given >= limit and any(read_pieces(watched)):
        raise RequestEntityTooLarge


def _announced(environ: WSGIEnvironment) -> int | None:
    # What most requests have; Werkzeug's own way takes longer than to read a small body.
    text = environ.get("CONTENT_LENGTH", "")
    if text.isdecimal() and len(text) < 20 and "HTTP_TRANSFER_ENCODING" not in environ:
        return int(text)
    return get_content_length(environ)


def _read(request: Request, limit: int | None) -> IO[bytes]:
    announced = _announced(request.environ)
    if announced is None:
        buffer = _spooled(_unannounced(request, limit))
    else:
        if limit is not None and announced > limit:
            raise RequestEntityTooLarge
        if announced > SPOOL_SIZE:
            buffer = _spooled(_rest(request, announced))
        else:
            buffer = io.BytesIO(_small(request, announced))
    # The view's own access must find the buffer, not the spent stream.
    request.__dict__.pop("stream", None)
    return buffer


def _small(request: Request, size: int) -> bytes:
    if not size:
        return b""
    # Werkzeug's stream around it takes longer for a small body than all the rest here.
    whole = _piece(request.environ["wsgi.input"], size)
    # A server may give less at once than there is.
    return whole if len(whole) == size else whole + b"".join(_rest(request, size - len(whole)))


def _rest(request: Request, left: int) -> Iterator[bytes]:
    stream = request.environ["wsgi.input"]
    while left:
        piece = _piece(stream, min(left, PIECE_SIZE))
        if not piece:
            raise ClientDisconnected
        left -= len(piece)
        yield piece


def _unannounced(request: Request, limit: int | None) -> Iterator[bytes]:
    size = 0
    for piece in read_pieces(request.stream):
        size += len(piece)
        yield piece
        if size == limit:
            # Read in pieces, Werkzeug's stream refuses even this size; read at once, it cuts a
            # longer one without a word.
            if any(read_pieces(request.environ["wsgi.input"])):
                raise RequestEntityTooLarge
            return


def _spooled(pieces: Iterator[bytes]) -> IO[bytes]:
    buffer = _Buffer(max_size=SPOOL_SIZE)
    try:
        for piece in pieces:
            buffer.write(piece)
        buffer.seek(0)
    except BaseException:
        buffer.close()
        raise
    return buffer


def read_pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """Read a stream to its end, a piece at a time.

    :raises ClientDisconnected: when the client went away, whatever the server calls it.
    """
    while piece := _piece(stream, PIECE_SIZE):
        yield piece


def _piece(stream: IO[bytes], size: int) -> bytes:
    try:
        return stream.read(size)
    except HTTPException:
        raise
    except Exception as error:
        raise ClientDisconnected from error
