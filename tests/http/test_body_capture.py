"""A response's body: captured while it is sent, and sent as it is."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Response

from flask_idempotent.http.responses import Tee, capture_body


class Callbacks:
    """Records the body that it is called with."""

    def __init__(self) -> None:
        self.bodies: list[bytes | str | None] = []

    def __call__(self, body: bytes | None) -> None:
        self.bodies.append(body)

    def dropped(self) -> None:
        self.bodies.append("dropped")


class Stream:
    """A stream that counts reads and closings, and may break off."""

    def __init__(self, *chunks: Any, error: BaseException | None = None) -> None:
        self._chunks = iter(chunks)
        self._error = error
        self.read = 0
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        for chunk in self._chunks:
            self.read += 1
            return chunk
        raise self._error or StopIteration

    def close(self) -> None:
        self.closed += 1


class TestCaptureBody:
    @pytest.mark.parametrize(
        ("response", "body"),
        [
            pytest.param(Response(b"\x00\xff"), b"\x00\xff", id="R5-binary"),
            pytest.param(Response("ü"), "ü".encode(), id="R5-text"),
            pytest.param(Response(), b"", id="R5-empty"),
            pytest.param(Response(["a", b"b", "c"]), b"abc", id="R5-list"),
            pytest.param(Response(("a", "b")), b"ab", id="R5-tuple"),
        ],
    )
    def test_at_once(self, response: Response, body: bytes) -> None:
        """A body that is not a stream is captured at once, and stays unchanged."""
        callbacks, before = Callbacks(), response.response
        capture_body(response, 10, callbacks, callbacks.dropped)
        assert callbacks.bodies == [body]
        assert response.response == before
        assert response.get_data() == body

    @pytest.mark.parametrize("size", [9, 10, 11])
    @pytest.mark.parametrize("streamed", [False, True])
    def test_max_body(self, size: int, streamed: bool) -> None:
        """A body of exactly ``max_body`` is kept, one byte more is not; both are sent whole."""
        body = b"x" * size
        response = Response(Stream(body[:5], body[5:]) if streamed else body)
        callbacks = Callbacks()
        capture_body(response, 10, callbacks, callbacks.dropped)
        assert response.get_data() == body
        assert callbacks.bodies == [body if size <= 10 else None]

    def test_max_body_of_nothing(self) -> None:
        """With ``max_body=0`` only an empty body is kept."""
        callbacks = Callbacks()
        for content in (b"", b"x"):
            capture_body(Response(content), 0, callbacks, callbacks.dropped)
        assert callbacks.bodies == [b"", None]

    def test_r3_stream_stays_a_stream(self) -> None:
        """R3: a stream is read while it is sent, not before, and captured when it ends."""
        stream, callbacks = Stream(b"a", "ü", b"c"), Callbacks()
        response = Response(stream)
        capture_body(response, 10, callbacks, callbacks.dropped)
        assert response.is_streamed
        assert stream.read == 0
        chunks = iter(response.response)
        assert (next(chunks), stream.read) == (b"a", 1)
        assert callbacks.bodies == []
        assert list(chunks) == ["ü".encode(), b"c"]
        assert callbacks.bodies == [b"a\xc3\xbcc"]

    def test_announced_too_large(self) -> None:
        """A stream whose Content-Length is over ``max_body`` is given up at once and left alone."""
        stream, callbacks = Stream(b"a" * 11), Callbacks()
        response = Response(stream, headers={"Content-Length": "11"})
        capture_body(response, 10, callbacks, callbacks.dropped)
        assert callbacks.bodies == [None]
        assert response.response is stream

    def test_r3_direct_passthrough_stays(self) -> None:
        """R3: a response with ``direct_passthrough`` keeps it, for others that look at it."""
        callbacks, stream = Callbacks(), Stream(b"a", b"b")
        response = Response(stream, direct_passthrough=True)
        capture_body(response, 10, callbacks, callbacks.dropped)
        assert response.direct_passthrough
        body, _, _ = run_wsgi_app(response, EnvironBuilder().get_environ(), buffered=True)
        assert b"".join(body) == b"ab"
        assert (callbacks.bodies, stream.closed) == ([b"ab"], 1)

    def test_direct_passthrough_of_a_list(self) -> None:
        """So does one whose content is a list."""
        callbacks = Callbacks()
        response = Response([b"a", b"b"], direct_passthrough=True)
        capture_body(response, 10, callbacks, callbacks.dropped)
        body, _, _ = run_wsgi_app(response, EnvironBuilder().get_environ(), buffered=True)
        assert b"".join(body) == b"ab"
        assert callbacks.bodies == [b"ab"]

    @pytest.mark.parametrize("content", ["text", Stream(b"a")])
    def test_r5_no_content(self, content: Any) -> None:
        """R5: a 204 has no body, whatever the view returned."""
        callbacks = Callbacks()
        capture_body(Response(content, status=204), 10, callbacks, callbacks.dropped)
        assert callbacks.bodies == [b""]


class TestTee:
    def make(self, stream: Stream, max_body: int = 10) -> tuple[Tee, Callbacks]:
        callbacks = Callbacks()
        return Tee(stream, stream, max_body, callbacks, callbacks.dropped), callbacks

    def test_end(self) -> None:
        """The body is captured once, at the end, and not again when the stream is closed."""
        stream = Stream(b"a", b"b")
        tee, callbacks = self.make(stream)
        assert list(tee) == [b"a", b"b"]
        assert list(tee) == []
        tee.close()
        del tee
        assert callbacks.bodies == [b"ab"]
        assert stream.closed == 1

    @pytest.mark.parametrize("chunks", [0, 1])
    def test_early_close(self, chunks: int) -> None:
        """A stream closed before its end is not kept, and its source is closed."""
        stream = Stream(b"a", b"b")
        tee, callbacks = self.make(stream)
        for _ in range(chunks):
            next(tee)
        tee.close()
        assert (callbacks.bodies, stream.closed) == ([None], 1)

    @pytest.mark.parametrize(
        "error", [LookupError("broken"), SystemExit(1), GeneratorExit(), KeyboardInterrupt()]
    )
    def test_broken(self, error: BaseException) -> None:
        """A stream that breaks off is not kept, and its exception is raised."""
        tee, callbacks = self.make(Stream(b"a", error=error))
        assert next(tee) == b"a"
        with pytest.raises(type(error)) as raised:
            next(tee)
        assert raised.value is error
        assert callbacks.bodies == [None]

    def test_collected(self) -> None:
        """A stream that nobody reads or closes is reported when it is collected."""
        tee, callbacks = self.make(Stream(b"a"))
        del tee
        gc.collect()
        assert callbacks.bodies == ["dropped"]

    def test_too_large(self) -> None:
        """A stream that grows too large is given up then, holds no memory and is sent whole."""
        first = bytes(range(6))
        tee, callbacks = self.make(Stream(first, b"b" * 6, b"c"))
        referrers = sys.getrefcount(first)
        next(tee)
        assert callbacks.bodies == []
        assert sys.getrefcount(first) > referrers, "it is remembered"
        next(tee)
        assert callbacks.bodies == [None]
        assert sys.getrefcount(first) == referrers, "it is forgotten"
        assert list(tee) == [b"c"]
        assert callbacks.bodies == [None]

    def test_failing_close(self) -> None:
        """An exception of the source's ``close`` is raised, and the body is given up."""

        class Failing(Stream):
            def close(self) -> None:
                raise LookupError("cannot be closed")

        tee, callbacks = self.make(Failing(b"a"))
        with pytest.raises(LookupError):
            tee.close()
        assert callbacks.bodies == [None]

    def test_source_without_close(self) -> None:
        """A source without ``close`` is accepted."""
        callbacks = Callbacks()
        tee = Tee([b"a"], object(), 10, callbacks, callbacks.dropped)
        assert list(tee) == [b"a"]
        tee.close()
        assert callbacks.bodies == [b"a"]
