"""Server inputs: how much of a body was read from a server's stream, and how much is left.

WSGI defines no methods for this. Where a middleware has read from the stream before Flask was
called, a server returns only what is left, and the development server waits forever. Attributes of
each server's stream distinguish such a body from one whose client has disconnected.
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

#: Seconds to wait for the next bytes of a body on the development server.
SILENCE_TIMEOUT = 5.0


class ClientSilentError(Exception):
    """The client sends no more bytes of a body that is not complete."""


def announced_length(environ: WSGIEnvironment) -> int | None:
    """The length of the body in bytes, or None where the request does not announce it."""
    return get_content_length(environ)


def bytes_left(stream: IO[bytes]) -> int | None:
    """How many bytes of a body are still to be read; None on servers other than gunicorn."""
    length = getattr(getattr(stream, "reader", None), "length", None)
    return length + stream.buf.tell() if isinstance(length, int) else None  # type: ignore[attr-defined]


def bytes_read(stream: IO[bytes]) -> int | None:
    """How many bytes were read so far, or None where the stream does not show it.

    gevent and eventlet count them. waitress, and most servers that receive the whole body before
    they call the application, give a file.
    """
    position = getattr(stream, "position", None)
    if isinstance(position, int):
        return position
    try:
        return stream.tell()
    except (AttributeError, OSError, ValueError):
        return None


def is_partly_read(stream: IO[bytes]) -> bool:
    """Whether a chunked body was read from, as far as the stream shows it."""
    reader: Any = getattr(stream, "reader", None)
    if hasattr(reader, "parser"):
        # gunicorn's generator of chunks.
        generator = reader.parser
        return generator is None or inspect.getgeneratorstate(generator) != inspect.GEN_CREATED
    if hasattr(stream, "chunk_length"):
        # gevent and eventlet: the length of the chunk that is being read.
        return bool(stream.chunk_length != -1)
    # The development server does not show it when whole chunks were read and no more.
    on_dev_server = getattr(stream, "_done", False) or getattr(stream, "_len", 0)
    return bool(on_dev_server or bytes_read(stream))


def read_with_timeout(connection: object, stream: IO[bytes], size: int) -> bytes:
    """Read from a stream; on the development server, wait no longer than ``SILENCE_TIMEOUT``.

    :param connection: the client's socket, which only the development server gives.
    :param size: how many bytes to read.
    :raises ClientSilentError: when the client sends nothing for that time.
    """
    if type(connection) is not socket.socket or not isinstance(stream, io.BufferedReader):
        return stream.read(size)
    timeout = connection.gettimeout()
    connection.settimeout(0)
    try:
        # What is in its buffer, or has arrived.
        data = stream.read1(size)
    finally:
        connection.settimeout(timeout)
    if data:
        return data
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        if not selector.select(SILENCE_TIMEOUT):
            raise ClientSilentError
    return stream.read1(size)
