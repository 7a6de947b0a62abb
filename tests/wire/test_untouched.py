"""Bodies on the wire: the view reads what it would read without the library."""

from __future__ import annotations

from itertools import cycle

import pytest

from tests.wire.bodies import BODIES, EVERY_BYTE, FILE, LARGE, each_body
from tests.wire.client import (
    BINARY,
    CHUNKED,
    JSON,
    MULTIPART,
    URLENCODED,
    Answer,
    chunks,
    head,
    message,
)
from tests.wire.conftest import Wire

#: How a view may read its request.
READERS = (
    "data", "get_data", "stream", "stream-lines", "stream-pieces", "form", "values",
    "files", "json", "form-then-data", "data-then-form",
)  # fmt: skip
ODD_BODIES = {
    "empty-form": (URLENCODED, b""),
    "odd-form": (URLENCODED, b"a=\xff&b=%FF&=&&c"),
    "malformed-multipart": (MULTIPART, b"no parts"),
    "no-boundary": (("Content-Type", "multipart/form-data"), b"a=1"),
    "malformed-json": (JSON, b"{malformed"),
    "empty-json": (JSON, b""),
    "no-type": (("X-No", "type"), b"bytes"),
    "no-body": (("X-No", "type"), None),
}
LARGE_BODIES = {"large-file": (MULTIPART, FILE % LARGE), "large": (BINARY, LARGE)}


#: An ordinary body meets every reader; an odd one meets four, the next one the next four.
BODIES_AND_READERS = [
    *((*body, READERS) for body in BODIES.values()),
    *((*body, (READERS * 4)[4 * n : 4 * n + 4]) for n, body in enumerate(ODD_BODIES.values())),
    *((*body, ("stream-pieces", "files", "data")) for body in LARGE_BODIES.values()),
]


class TestUntouched:
    """What the view sees, next to an exempt twin of it."""

    @pytest.mark.parametrize(
        ("content_type", "body", "readers"),
        BODIES_AND_READERS,
        ids=[*BODIES, *ODD_BODIES, *LARGE_BODIES],
    )
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_f3(
        self,
        wire: Wire,
        content_type: tuple[str, str],
        body: bytes | None,
        readers: tuple[str, ...],
        framing: str,
    ) -> None:
        """Each way to read a request gives what it gives without the library."""
        for reader in readers:
            key = ("Idempotency-Key", f"{wire.key[1]}-{reader}")
            answers = [
                self.exchange(wire, f"/{prefix}look/{reader}", [key, content_type], body, framing)
                for prefix in ("", "exempt/")
            ]
            assert answers[0].status == answers[1].status, reader
            assert answers[0].body == answers[1].body, reader
        assert wire.records > 0

    @each_body
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_f3_without_a_key(
        self, wire: Wire, content_type: tuple[str, str], body: bytes, framing: str
    ) -> None:
        """So it does for a request without a key, of which nothing is stored."""
        for reader, app in zip(READERS, cycle(["", "limited/"]), strict=False):
            answers = [
                self.exchange(wire, f"/{app}{prefix}look/{reader}", [content_type], body, framing)
                for prefix in ("", "exempt/")
            ]
            assert answers[0].status == answers[1].status, reader
            assert answers[0].body == answers[1].body, reader
        assert wire.records == 0

    def exchange(
        self,
        wire: Wire,
        path: str,
        headers: list[tuple[str, str]],
        body: bytes | None,
        framing: str,
    ) -> Answer:
        if framing == "length" or body is None:
            return wire.exchange(message("POST", path, headers, body))
        pieces = [piece for piece in (body[:5], body[5:]) if piece]
        return wire.exchange(head("POST", path, [*headers, CHUNKED]) + chunks(*pieces))

    def test_f3_input(self, wire: Wire) -> None:
        """The server's own stream gives the body too, for a view that reads it there."""
        answers = [
            wire.exchange(message("POST", path, [wire.key, BINARY], EVERY_BYTE))
            for path in ("/look/input", "/exempt/look/input")
        ]
        assert answers[0].body == answers[1].body
