"""Server inputs: what a server's stream tells of itself; WSGI promises ``read`` alone.

Bytes that somebody took before Flask had its turn are missing without a word: a server hands over
what is left, and the development server waits for ever. What servers let be seen tells the
difference between such a body and one whose client went away.
"""

from __future__ import annotations

import inspect
import io
import selectors
import socket
from typing import IO, TYPE_CHECKING, Any

from werkzeug.wsgi import get_content_length

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: Seconds that the development server's client may be silent within a body.
SILENCE = 5.0


class ClientSilentError(Exception):
    """The rest of an announced body does not come."""


def announced_length(environ: WSGIEnvironment) -> int | None:
    """The length of the body in bytes, or None where the request does not say it."""
    # What most requests have; Werkzeug's own way takes longer than to read a small body.
    text = environ.get("CONTENT_LENGTH", "")
    if text.isdecimal() and len(text) < 20 and "HTTP_TRANSFER_ENCODING" not in environ:
        return int(text)
    return get_content_length(environ)


def bytes_left(stream: IO[bytes]) -> int | None:
    """How many bytes of an announced body are still to be read; only gunicorn says so."""
    length = getattr(getattr(stream, "reader", None), "length", None)
    return length + stream.buf.tell() if isinstance(length, int) else None  # type: ignore[attr-defined]


def bytes_given(stream: IO[bytes]) -> int | None:
    """How many bytes were read so far, where the stream can say so.

    gevent and eventlet count; waitress, and most that hand over a body from memory, give a file.
    """
    position = getattr(stream, "position", None)
    if isinstance(position, int):
        return position
    try:
        return stream.tell()
    except (AttributeError, OSError, ValueError):
        return None


def has_begun(stream: IO[bytes]) -> bool:
    """Whether somebody has read from a chunked body, as far as the server lets it be seen."""
    reader: Any = getattr(stream, "reader", None)
    if hasattr(reader, "parser"):
        # gunicorn's generator of chunks.
        generator = reader.parser
        return generator is None or inspect.getgeneratorstate(generator) != inspect.GEN_CREATED
    if hasattr(stream, "chunk_length"):
        # gevent and eventlet: of the chunk that is being read.
        return bool(stream.chunk_length != -1)
    # The development server: not seen where somebody has read whole chunks and no more.
    on_dev_server = getattr(stream, "_done", False) or getattr(stream, "_len", 0)
    return bool(on_dev_server or bytes_given(stream))


def read_patiently(connection: object, stream: IO[bytes], size: int) -> bytes:
    """Read from a stream, but from the development server's without waiting for ever.

    :param connection: the client's, where the server says it.
    :raises ClientSilentError: when nothing came for ``SILENCE`` seconds.
    """
    if type(connection) is not socket.socket or not isinstance(stream, io.BufferedReader):
        return stream.read(size)
    timeout = connection.gettimeout()
    connection.settimeout(0)
    try:
        # What is in its buffer or has arrived.
        piece = stream.read1(size)
    finally:
        connection.settimeout(timeout)
    if piece:
        return piece
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        if not selector.select(SILENCE):
            raise ClientSilentError
    return stream.read1(size)
