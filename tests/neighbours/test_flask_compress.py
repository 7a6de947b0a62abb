"""Flask-Compress: what is stored is plain, and each answer is packed for its own client."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from flask import Response, send_file, stream_with_context
from flask_compress import Compress
from werkzeug.test import TestResponse

from tests.neighbours.client import replayed, send
from tests.support.clients import WayIn

Ask = Callable[[str, str], TestResponse]

TEXT = "what a long text it is, " * 200
PATHS = ["/json", "/stream", "/file", "/decorated"]
PACKED = {"COMPRESS_ALGORITHM": ["gzip"], "COMPRESS_ALGORITHM_STREAMING": ["gzip"]}


@pytest.fixture
def ask(way: WayIn) -> Ask:
    """Asks for a path as a client that takes this encoding."""
    app, runs = way.app(config=PACKED), count(1)
    compress = Compress(app)

    @app.post("/json")
    @way
    def as_json() -> Response:
        response = app.json.response(f"run {next(runs)} {TEXT}")
        response.set_etag("tag")
        return response

    @app.post("/stream")
    @way
    def stream() -> Response:
        def chunks() -> Iterator[str]:
            yield f"run {next(runs)} "
            yield TEXT

        return Response(stream_with_context(chunks()), mimetype="text/plain")

    @app.post("/file")
    @way
    def sent_file() -> Response:
        return send_file(io.BytesIO(f"run {next(runs)} {TEXT}".encode()), "text/plain")

    @app.post("/decorated")
    @way
    @compress.compressed()
    def decorated() -> str:
        return f"run {next(runs)} {TEXT}"

    def ask(path: str, encoding: str) -> TestResponse:
        client = app.test_client()
        return send(client, path, headers={"Accept-Encoding": encoding})

    return ask


def read(answer: TestResponse) -> str:
    """Read an answer as its client would."""
    packed = answer.headers.get("Content-Encoding") == "gzip"
    data = gzip.decompress(answer.data) if packed else answer.data
    if "Content-Length" in answer.headers:
        assert answer.headers["Content-Length"] == str(len(answer.data))
    return data.decode()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("first", "retry"), [("gzip", "identity"), ("identity", "gzip")])
def test_r4_each_reads_its_own_encoding(ask: Ask, path: str, first: str, retry: str) -> None:
    """R4: a gzip first and an identity retry, or the reverse, both read well and say the same."""
    answers = [ask(path, encoding) for encoding in (first, retry, first)]
    encodings = [answer.headers.get("Content-Encoding", "identity") for answer in answers]
    assert encodings == [first, retry, first]
    assert [replayed(answer) for answer in answers] == [False, True, True]
    texts = [read(answer) for answer in answers]
    assert texts[0].strip('"\n').startswith("run 1 what")
    assert len(set(texts)) == 1


def test_r4_one_vary_and_one_tag(ask: Ask) -> None:
    """R4: what Flask-Compress adds to the first answer is not added again to a replay."""
    first, plain, packed = (ask("/json", encoding) for encoding in ("gzip", "identity", "gzip"))
    assert [a.headers["ETag"] for a in (first, plain, packed)] == [
        '"tag:gzip"',
        '"tag"',
        '"tag:gzip"',
    ]
    assert packed.headers.getlist("Vary") == first.headers.getlist("Vary") == ["Accept-Encoding"]
