"""Bodies that the tests on the wire send, and what they read of the answers."""

from __future__ import annotations

import base64

import pytest

from tests.wire.client import (
    BINARY,
    JSON,
    MULTIPART,
    URLENCODED,
    Answer,
    Connection,
)
from tests.wire.conftest import Wire

LIMIT = 100_000
FILE = b"""--b\r
Content-Disposition: form-data; name="a"\r
\r
1\r
--b\r
Content-Disposition: form-data; name="f"; filename="f.bin"\r
Content-Type: application/octet-stream\r
X-Part: kept\r
\r
%s\r
--b--\r
"""
EVERY_BYTE = bytes(range(256)) * 20
#: More than is kept in memory, in short lines and long ones.
LARGE = (b"\n\r\n\x00" * 5 + b"x" * 4200) * 130
BODIES = {
    "urlencoded": (URLENCODED, b"a=1&b=%C3%BC&a=2"),
    "multipart": (MULTIPART, FILE % EVERY_BYTE),
    "json": (JSON, b'{"a": [1, 2, "three", null]}'),
    "binary": (BINARY, EVERY_BYTE),
}
each_body = pytest.mark.parametrize(("content_type", "body"), BODIES.values(), ids=BODIES)


def seen(answer: Answer) -> bytes:
    """The body that the view of ``echo`` read."""
    assert answer.status == 200, answer.body
    return base64.b64decode(answer.json["body"])


def answer_if_any(wire: Wire, connection: Connection) -> Answer | None:
    """Read the answer to a request that ended too early; a server may see no request at all."""
    try:
        return connection.answer()
    except (EOFError, ConnectionResetError):
        assert wire.reads_all_first
        return None
