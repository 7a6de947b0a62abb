"""A response's body: captured while it is sent, and sent as it is."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Response

from flask_idempotent.http.responses import Tee, watch_body


class Finish:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[bytes | str | None] = []

    def __call__(self, body: bytes | None) -> None:
        self.told.append(body)

    def abandon(self) -> None:
        self.told.append("abandoned")


class Stream:
    """A stream that notes what happens to it, and may break off."""

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


class TestWatchBody:
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
        """A body that is there is told at once, and stays as it is."""
        finish, before = Finish(), response.response
        watch_body(response, 10, finish, finish.abandon)
        assert finish.told == [body]
        assert response.response == before
        assert response.get_data() == body

    @pytest.mark.parametrize("size", [9, 10, 11])
    @pytest.mark.parametrize("streamed", [False, True])
    def test_max_body(self, size: int, streamed: bool) -> None:
        """A body of exactly ``max_body`` is kept, one octet more is not; both are sent whole."""
        octets = b"x" * size
        response = Response(Stream(octets[:5], octets[5:]) if streamed else octets)
        finish = Finish()
        watch_body(response, 10, finish, finish.abandon)
        assert response.get_data() == octets
        assert finish.told == [octets if size <= 10 else None]

    def test_max_body_of_nothing(self) -> None:
        """With ``max_body=0`` an empty body is kept and no other."""
        finish = Finish()
        for content in (b"", b"x"):
            watch_body(Response(content), 0, finish, finish.abandon)
        assert finish.told == [b"", None]

    def test_r3_stream_stays_a_stream(self) -> None:
        """A stream is read as it is sent, not before; it is told when it ends."""
        stream, finish = Stream(b"a", "ü", b"c"), Finish()
        response = Response(stream)
        watch_body(response, 10, finish, finish.abandon)
        assert response.is_streamed
        assert stream.read == 0
        chunks = iter(response.response)
        assert (next(chunks), stream.read) == (b"a", 1)
        assert finish.told == []
        assert list(chunks) == ["ü".encode(), b"c"]
        assert finish.told == [b"a\xc3\xbcc"]

    def test_announced_too_large(self) -> None:
        """A stream that announces more than is kept is told at once and left alone."""
        stream, finish = Stream(b"a" * 11), Finish()
        response = Response(stream, headers={"Content-Length": "11"})
        watch_body(response, 10, finish, finish.abandon)
        assert finish.told == [None]
        assert response.response is stream

    def test_r3_direct_passthrough_stays(self) -> None:
        """A response that is passed through stays one, so that others treat it as without us."""
        finish, stream = Finish(), Stream(b"a", b"b")
        response = Response(stream, direct_passthrough=True)
        watch_body(response, 10, finish, finish.abandon)
        assert response.direct_passthrough
        body, _, _ = run_wsgi_app(response, EnvironBuilder().get_environ(), buffered=True)
        assert b"".join(body) == b"ab"
        assert (finish.told, stream.closed) == ([b"ab"], 1)

    def test_direct_passthrough_of_a_list(self) -> None:
        """So does one whose content is a list."""
        finish = Finish()
        response = Response([b"a", b"b"], direct_passthrough=True)
        watch_body(response, 10, finish, finish.abandon)
        body, _, _ = run_wsgi_app(response, EnvironBuilder().get_environ(), buffered=True)
        assert b"".join(body) == b"ab"
        assert finish.told == [b"ab"]

    @pytest.mark.parametrize("content", ["text", Stream(b"a")])
    def test_r5_no_content(self, content: Any) -> None:
        """A 204 has no body, whatever the view gave, and is told at once."""
        finish = Finish()
        watch_body(Response(content, status=204), 10, finish, finish.abandon)
        assert finish.told == [b""]


class TestTee:
    def make(self, stream: Stream, max_body: int = 10) -> tuple[Tee, Finish]:
        finish = Finish()
        return Tee(stream, stream, max_body, finish, finish.abandon), finish

    def test_end(self) -> None:
        """The content is told once, at the end; closing afterwards tells nothing more."""
        stream = Stream(b"a", b"b")
        tee, finish = self.make(stream)
        assert list(tee) == [b"a", b"b"]
        assert list(tee) == []
        tee.close()
        del tee
        assert finish.told == [b"ab"]
        assert stream.closed == 1

    @pytest.mark.parametrize("chunks", [0, 1])
    def test_early_close(self, chunks: int) -> None:
        """A stream closed before its end is not kept, and its source is closed."""
        stream = Stream(b"a", b"b")
        tee, finish = self.make(stream)
        for _ in range(chunks):
            next(tee)
        tee.close()
        assert (finish.told, stream.closed) == ([None], 1)

    @pytest.mark.parametrize(
        "error", [LookupError("broken"), SystemExit(1), GeneratorExit(), KeyboardInterrupt()]
    )
    def test_broken(self, error: BaseException) -> None:
        """A stream that breaks off is not kept, whatever broke it, and the error rises."""
        tee, finish = self.make(Stream(b"a", error=error))
        assert next(tee) == b"a"
        with pytest.raises(type(error)) as raised:
            next(tee)
        assert raised.value is error
        assert finish.told == [None]

    def test_collected(self) -> None:
        """A stream that nobody reads or closes is told as abandoned when it is collected."""
        tee, finish = self.make(Stream(b"a"))
        del tee
        gc.collect()
        assert finish.told == ["abandoned"]

    def test_too_large_is_told_while_it_runs(self) -> None:
        """A stream that grows too large is told then, keeps nothing and goes on whole."""
        tee, finish = self.make(Stream(b"a" * 6, b"b" * 6, b"c"))
        next(tee)
        assert finish.told == []
        next(tee)
        assert finish.told == [None]
        assert tee._seen == []
        assert list(tee) == [b"c"]
        assert finish.told == [None]

    def test_failing_close(self) -> None:
        """An error while the source is closed rises, and the stream is settled."""

        class Failing(Stream):
            def close(self) -> None:
                raise LookupError("cannot be closed")

        tee, finish = self.make(Failing(b"a"))
        with pytest.raises(LookupError):
            tee.close()
        assert finish.told == [None]

    def test_source_without_close(self) -> None:
        """A source need not be closable."""
        finish = Finish()
        tee = Tee([b"a"], object(), 10, finish, finish.abandon)
        assert list(tee) == [b"a"]
        tee.close()
        assert finish.told == [b"a"]
