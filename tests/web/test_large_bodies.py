"""Large bodies, both ways, through real web servers.

A form has 30 MB; ``LARGE_BODY_MB=200`` in the environment makes it 200.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

import pytest

from flask_idempotent.http.spools import SPOOL_SIZE
from tests.support.applications import CHUNK, CHUNKS
from tests.support.redis_servers import Server
from tests.support.web_servers import connected, serving

MB = 1_000_000
FORM_SIZE = int(os.environ.get("LARGE_BODY_MB", "30")) * MB
#: Of a body that is compared byte by byte: the library spools it, and memory does not matter.
COMPARED_SIZE = FORM_SIZE // 5
ALLOWED_GROWTH = 20 * MB

PIECE = random.Random(1).randbytes(100_000)


@dataclass(frozen=True)
class Content:
    """Bytes that are made while they are sent."""

    size: int
    seed: bytes = b"first"

    def __iter__(self) -> Iterator[bytes]:
        yield self.seed
        left = self.size - len(self.seed)
        for number in range(left // len(PIECE)):
            yield number.to_bytes(4) + PIECE[4:]
        yield PIECE[: left % len(PIECE)]

    @property
    def digest(self) -> str:
        digest = hashlib.blake2b()
        for piece in self:
            digest.update(piece)
        return digest.hexdigest()


@dataclass(frozen=True)
class Form:
    """A multipart form with one field and one file."""

    content: Content
    boundary: bytes = b"boundary-one"

    @property
    def _head(self) -> bytes:
        return (
            b'--%b\r\nContent-Disposition: form-data; name="note"\r\n\r\nred\r\n'
            b'--%b\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n'
            b"Content-Type: application/octet-stream\r\n\r\n"
        ) % (self.boundary, self.boundary)

    @property
    def _tail(self) -> bytes:
        return b"\r\n--%b--\r\n" % self.boundary

    @property
    def size(self) -> int:
        return len(self._head) + self.content.size + len(self._tail)

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self.boundary.decode()}"

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        yield from self.content
        yield self._tail


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    status: int
    replayed: bool
    document: dict[str, Any]


class Large:
    """The application of large bodies, behind a web server."""

    def __init__(self, port: int) -> None:
        self.port = port

    def send(
        self, path: str, body: Form | Content, *, key: str = "one", chunked: bool = False
    ) -> Answer:
        content_type = getattr(body, "content_type", "application/octet-stream")
        headers = {"Idempotency-Key": key, "Content-Type": content_type}
        if not chunked:
            headers["Content-Length"] = str(body.size)
        with connected(self.port) as connection:
            connection.request("POST", path, iter(body), headers, encode_chunked=chunked)
            response = connection.getresponse()
            replayed = response.headers["Idempotent-Replayed"] == "true"
            return Answer(response.status, replayed, json.loads(response.read()))

    def peak(self) -> int:
        """The most memory that the server has held, in bytes."""
        with connected(self.port) as connection:
            connection.request("GET", "/peak")
            return int(connection.getresponse().read()) * 1024


@pytest.fixture(scope="module", params=["gunicorn", "waitress"])
def running(
    request: pytest.FixtureRequest, valkey: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Large]:
    """The application behind each server in turn."""
    folder = tmp_path_factory.mktemp("large")
    app = "tests.support.applications:large"
    with serving(request.param, app, folder, REDIS_URL=valkey.url) as port:
        yield Large(port)


@pytest.fixture
def large(running: Large, clean_valkey: Server) -> Large:
    """The application, and nothing in its store."""
    return running


def growth(large: Large, path: str, body: Form | Content) -> int:
    """How many bytes the library adds to the memory that an upload costs its server."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux says how much memory a process has held")
    small = Form(Content(100)) if isinstance(body, Form) else Content(100)
    for warm_up in (f"/exempt{path}", path):
        large.send(warm_up, small, key="small")
    before = large.peak()
    large.send(f"/exempt{path}", body)
    without = large.peak()
    assert without - before < ALLOWED_GROWTH, "the view holds the body itself"
    large.send(path, body)
    return large.peak() - without


class TestUpload:
    def test_f2_w4_form_in_pieces(self, large: Large) -> None:
        """F2: the library never holds a large form in memory."""
        assert growth(large, "/form", Form(Content(FORM_SIZE))) < ALLOWED_GROWTH

    def test_w4_bytes_in_pieces(self, large: Large) -> None:
        """W4: the library never holds a large body that is not a form in memory."""
        assert growth(large, "/content", Content(FORM_SIZE)) < ALLOWED_GROWTH

    def test_f2_form_is_whole_and_retried(self, large: Large) -> None:
        """F2: the view reads a large form whole; another boundary is the same form."""
        content = Content(COMPARED_SIZE)
        first = large.send("/form", Form(content))
        assert first == Answer(200, False, {
            "note": "red", "name": "f.bin", "digest": content.digest
        })  # fmt: skip
        other = large.send("/form", Form(Content(COMPARED_SIZE, b"other")))
        assert (other.status, other.document["title"]) == (422, "Idempotency key reused")
        retry = large.send("/form", Form(content, b"another-boundary"))
        assert retry == Answer(200, True, first.document)

    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    @pytest.mark.parametrize("size", [SPOOL_SIZE + 1, COMPARED_SIZE])
    def test_w4_bytes_are_whole_and_retried(self, large: Large, size: int, chunked: bool) -> None:
        """W4: the view reads a body over 512 KiB whole, however it was sent, and so is a retry."""
        content = Content(size)
        first = large.send("/content", content, chunked=chunked)
        assert first == Answer(200, False, {"digest": content.digest})
        assert large.send("/content", Content(size, b"other"), chunked=chunked).status == 422
        assert large.send("/content", content, chunked=not chunked).replayed


class TestStream:
    def test_r3_c2_arrives_at_once_and_runs_once(self, large: Large, clean_valkey: Server) -> None:
        """R3: a stream's first chunk arrives before its last is made; a retry never runs it."""
        redis = clean_valkey.client
        with connected(large.port) as connection:
            headers = {"Idempotency-Key": "one", "Content-Type": "application/octet-stream"}
            connection.request("POST", "/stream", headers=headers)
            response = connection.getresponse()
            assert (response.status, response.read(len(CHUNK))) == (200, CHUNK)
            redis.rpush("go on", "now")
            rest = read_pieces(response)
        assert rest == (CHUNKS - 1) * len(CHUNK)

        retry = large.send("/stream", Content(0, b""))
        assert retry.status == 409
        assert retry.document["type"].endswith(":response-not-kept")
        assert redis.get("runs") == b"1"


def read_pieces(response: HTTPResponse) -> int:
    """Read the rest of a stream, comparing it, and say how long it was."""
    size = 0
    while piece := response.read(len(CHUNK)):
        assert piece == CHUNK
        size += len(piece)
    return size
