"""Request bodies as servers pass them on, each in its own way."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_idempotent.http.spools import SPOOL_SIZE
from flask_idempotent.http.tracked_input import TrackedInput
from tests.support.clients import post

Framing = Callable[[bytes], dict[str, Any]]

KEY = "__idempotent_key"
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
LINES = b"one\ntwo\n\nthree"
#: A form with a file of any content, and a field.
FILE = b"""--b\r
Content-Disposition: form-data; name="f"; filename="f.txt"\r
Content-Type: text/plain\r
\r
%s\r
--b\r
Content-Disposition: form-data; name="a"\r
\r
1\r
--b--\r
"""
#: More than is kept in memory.
LARGE = bytes(range(256)) * (SPOOL_SIZE // 256 + 1)


class Source(io.RawIOBase):
    """A server's stream that returns few bytes at a time, and then ends or fails."""

    def __init__(self, content: bytes, error: Exception | None = None, chunk_size: int = 7) -> None:
        self._rest = io.BytesIO(content)
        self._error = error
        self.chunk_size = chunk_size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._rest.read(min(len(buffer), self.chunk_size))
        if not data and self._error is not None:
            raise self._error
        buffer[: len(data)] = data
        return len(data)


class Plain:
    """A server's stream with the methods of WSGI alone, which return as much as is asked for."""

    def __init__(self, content: bytes) -> None:
        file = io.BytesIO(content)
        self.read = file.read
        self.readline = file.readline
        self.readlines = file.readlines
        self.__iter__ = file.__iter__


class ParseError(Exception):
    """Stands for gunicorn's errors on a truncated chunked body, which are not an OSError."""


def with_length(content: bytes, length: int | None = None) -> dict[str, Any]:
    """A body with a Content-Length, on a server that does not end the stream itself."""
    length = len(content) if length is None else length
    return {"wsgi.input": Plain(content), "CONTENT_LENGTH": str(length)}


def as_file(content: bytes, length: int | None = None) -> dict[str, Any]:
    """The same from a server that has the whole body before it calls the application."""
    return {
        **with_length(content, length),
        "wsgi.input": io.BytesIO(content),
        "wsgi.input_terminated": True,
    }


def ending(content: bytes, length: int | None = None) -> dict[str, Any]:
    """The same on a server that ends the stream itself, and returns few bytes at a time."""
    return {
        **with_length(content, length),
        "wsgi.input": Source(content),
        "wsgi.input_terminated": True,
    }


def chunked(content: bytes, error: Exception | None = None) -> dict[str, Any]:
    """A body in chunks."""
    return {
        "wsgi.input": Source(content, error),
        "wsgi.input_terminated": True,
        "HTTP_TRANSFER_ENCODING": "chunked",
        "CONTENT_LENGTH": "",
    }


FRAMINGS = [with_length, as_file, ending, chunked]


def request_of(framing: dict[str, Any], content_type: str = "", **environ: Any) -> Request:
    """A request with such a body."""
    made = EnvironBuilder(method="POST").get_environ()
    made.update(framing, CONTENT_TYPE=content_type, **environ)
    return Request(made)


def whole(stream: TrackedInput, limit: int | None = None) -> bytes:
    """The whole body, as the library reads it."""
    return b"".join(stream.chunks(limit))


def form_of(*names: str, content: bytes = b"content") -> bytes:
    """A multipart form with a file of each name, followed by the key."""
    part = b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
    files = (part % (name.encode(), b'; filename="f"', content) for name in names)
    return b"".join(files) + part % (KEY.encode(), b"", b"k") + b"--b--\r\n"


def send(app: Flask, body: bytes, kind: str, key: str | None = None, **environ: Any) -> Any:
    """POST a body with its length and media type, and a key or none."""
    environ = {"CONTENT_TYPE": kind, **with_length(body), **environ}
    return post(app, key, environ_overrides=environ)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged at WARNING or above, without the one on the store in memory."""
    return [
        record.getMessage() for record in caplog.records
        if record.levelno >= logging.WARNING and "memory://" not in record.getMessage()
    ]  # fmt: skip
