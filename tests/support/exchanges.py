"""Requests and answers as they went over the wire, checked by httplint."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

from httplint import HttpRequestLinter, HttpResponseLinter
from httplint.note import Note

Headers = list[tuple[bytes, bytes]]
#: The linter's warnings that may come, each with its reason; its level BAD may not.
ACCEPTED = {
    "STATUS_BAD_REQUEST": "it is said of every 400, and these are meant to be one",
    "FRESHNESS_HEURISTIC": "older linters overlook that the request is a POST",
}


class Exchange:
    """One request and its answer, as bytes.

    :param port: where the server listens.
    """

    def __init__(self, port: int, path: str, headers: dict[str, str], body: bytes) -> None:
        self._path = path
        self._request: Headers = [
            (name.encode(), value.encode()) for name, value in headers.items()
        ]
        head = [b"POST %b HTTP/1.1" % path.encode()]
        head += [b"%b: %b" % pair for pair in self._request]
        self._socket = socket.create_connection(("127.0.0.1", port), 20)
        self._socket.sendall(b"\r\n".join([*head, b"", body]))

    def go_away(self) -> Exchange:
        """Send no more."""
        self._socket.shutdown(socket.SHUT_WR)
        return self

    def receive(self) -> Exchange:
        """Read the answer to its end."""
        with self._socket, self._socket.makefile("rb") as stream:
            raw = stream.read()
        head, _, body = raw.partition(b"\r\n\r\n")
        line, *fields = head.split(b"\r\n")
        self.version, self.code, self.phrase = line.split(b" ", 2)
        self.headers: Headers = []
        for field in fields:
            name, _, value = field.partition(b":")
            self.headers.append((name, value.strip(b" \t")))
        self.body = dechunked(body) if (b"transfer-encoding", b"chunked") in self._lower() else body
        return self

    def _lower(self) -> Headers:
        return [(name.lower(), value.lower()) for name, value in self.headers]

    def header(self, name: bytes) -> bytes | None:
        return dict(self._lower()).get(name)

    @property
    def status(self) -> int:
        return int(self.code)

    def notes(self) -> list[Note]:
        """What the linter says, the notes below notes too."""
        request = HttpRequestLinter()
        request.process_request_topline(b"POST", self._path.encode(), b"HTTP/1.1")
        request.process_headers(self._request)
        linter = HttpResponseLinter()
        linter.request = request
        linter.process_response_topline(self.version.split(b"/")[1], self.code, self.phrase)
        linter.process_headers(self.headers)
        linter.feed_content(self.body)
        linter.finish_content(True)
        return list(flat(linter.notes))


def flat(notes: Any) -> Iterator[Note]:
    for note in notes:
        yield note
        yield from flat(note.subnotes)


def dechunked(body: bytes) -> bytes:
    """Join chunks (RFC 9112, 7.1)."""
    content = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        content += body[:length]
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]
    return content
