"""A small HTTP client on a socket: it sends exactly what it is given, and hides nothing."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Text = str | bytes
Headers = Iterable[tuple[Text, Text]]

CHUNKED = ("Transfer-Encoding", "chunked")
JSON = ("Content-Type", "application/json")
URLENCODED = ("Content-Type", "application/x-www-form-urlencoded")
MULTIPART = ("Content-Type", "multipart/form-data; boundary=b")
BINARY = ("Content-Type", "application/octet-stream")

_SECONDS = 15


def _encoded(text: Text) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


def head(method: str, path: str, headers: Headers = (), *, version: str = "1.1") -> bytes:
    """Write a request's head; the caller says how the body is framed."""
    lines = [f"{method} {path} HTTP/{version}".encode(), b"Host: localhost"]
    lines += [_encoded(name) + b": " + _encoded(value) for name, value in headers]
    return b"\r\n".join([*lines, b"", b""])


def message(
    method: str, path: str, headers: Headers = (), body: bytes | None = None, **options: Any
) -> bytes:
    """Write a whole request; one with a body says how long it is."""
    length = [] if body is None else [("Content-Length", str(len(body)))]
    return head(method, path, [*headers, *length], **options) + (body or b"")


def chunks(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """Write a chunked body (M 7.1)."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


class Answer:
    """What a server answered.

    :param status_line: such as ``HTTP/1.1 200 OK``.
    :param headers: names and values as they came.
    """

    def __init__(self, status_line: str, headers: list[tuple[str, str]]) -> None:
        self.status_line = status_line
        self.status = int(status_line.split(" ")[1])
        self.headers = headers
        self.body = b""

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for other, value in self.headers if other.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of a header that stands once or not at all."""
        values = self.all(name)
        assert len(values) < 2, f"{name} stands {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def replayed(self) -> bool:
        return self.get("Idempotent-Replayed") == "true"

    @property
    def problem(self) -> tuple[int, str]:
        """The status and the last part of a problem's type."""
        assert self.get("Content-Type") == "application/problem+json", self.body
        assert self.json["status"] == self.status
        return self.status, self.json["type"].rpartition(":")[2]

    @property
    def chunked(self) -> bool:
        return self.get("Transfer-Encoding") == "chunked"

    @property
    def stays_open(self) -> bool:
        """Whether the server promised to take another request on this connection."""
        close = (self.get("Connection") or "").lower()
        return close == "keep-alive" or (close != "close" and "HTTP/1.1" in self.status_line)


class Connection:
    """One connection to a server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _SECONDS)
        self._seen = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def half_close(self) -> None:
        """Close the sending side, and go on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Vanish, as a client does whose process is killed."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def answer(self, method: str = "POST") -> Answer:
        """Read one final answer; a ``100 Continue`` before it is passed over."""
        found = self.head()
        while found.status == 100:
            found = self.head()
        found.body = self._body(found, method)
        return found

    def head(self) -> Answer:
        """Read an answer's head."""
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines[1:])
        return Answer(lines[0], [(name, value.strip(" \t")) for name, _, value in fields])

    def _body(self, answer: Answer, method: str) -> bytes:
        if method == "HEAD" or answer.status in (204, 304):
            return b""
        if answer.chunked:
            return b"".join(iter(self.chunk, b""))
        length = answer.get("Content-Length")
        return self.rest() if length is None else self.take(int(length))

    def chunk(self) -> bytes:
        """Read one chunk; the last is empty."""
        size = int(self._until(b"\r\n"), 16)
        piece = self.take(size)
        assert self.take(2) == b"\r\n"
        return piece

    def take(self, size: int) -> bytes:
        """Read a number of bytes."""
        while len(self._seen) < size:
            self._more()
        taken, self._seen = self._seen[:size], self._seen[size:]
        return taken

    def rest(self) -> bytes:
        """Read until the server closes; a reset is a way to close."""
        try:
            while True:
                self._more()
        except (EOFError, ConnectionResetError):
            rest, self._seen = self._seen, b""
            return rest

    def _until(self, end: bytes) -> bytes:
        while end not in self._seen:
            self._more()
        found, _, self._seen = self._seen.partition(end)
        return found

    def _more(self) -> None:
        piece = self._socket.recv(65536)
        if not piece:
            raise EOFError(f"the server closed after {self._seen!r}")
        self._seen += piece


@contextmanager
def connected(port: int, data: bytes = b"") -> Iterator[Connection]:
    """Open a connection and send something."""
    with Connection(port) as connection:
        connection.send(data)
        yield connection
