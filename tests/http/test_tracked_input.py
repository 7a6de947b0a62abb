"""Tracked input: what the application and the library read of a server's stream."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from gunicorn.http.body import Body as GunicornBody
from gunicorn.http.body import LengthReader
from gunicorn.http.unreader import IterUnreader
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from flask_idempotent.http import server_inputs
from flask_idempotent.http.body_tracking import track
from flask_idempotent.http.tracked_input import CHUNK_SIZE, BytesMissingError, TrackedInput
from tests.support.request_bodies import (
    LARGE,
    LINES,
    Framing,
    ParseError,
    Plain,
    as_file,
    chunked,
    ending,
    request_of,
    whole,
    with_length,
)


def stream_of(framing: dict[str, Any]) -> TrackedInput:
    """The stream of a new request with such a body."""
    return track(request_of(framing))


class TestReading:
    """What the application reads."""

    def test_f3_every_way(self) -> None:
        """F3: every method returns what the server's own stream would return."""

        def read(stream: Any) -> list[Any]:
            buffer = bytearray(2)
            return [
                stream.read(0), stream.readline(), stream.read(1), stream.readline(1),
                stream.readinto(buffer), buffer, stream.read(None), stream.read(),
                stream.readline(),
            ]  # fmt: skip

        tracked = stream_of(with_length(LINES))
        assert read(tracked) == read(io.BytesIO(LINES))
        assert whole(tracked) == LINES

    def test_f3_lines(self, framing: Framing) -> None:
        """F3: it can be iterated over, also from the middle of the copy."""
        tracked = stream_of(framing(LINES))
        assert tracked.read(2) == b"on"
        assert whole(tracked) == LINES
        assert list(tracked) == [b"e\n", b"two\n", b"\n", b"three"]

    @pytest.mark.parametrize("size", [0, 1, 5, 100])
    def test_f3_goes_on(self, framing: Framing, size: int) -> None:
        """F3: a reader goes on where it was, whatever the library has read meanwhile."""
        tracked = stream_of(framing(LINES))
        start = b"".join(iter(lambda: tracked.read(1), b"")) if size > 99 else tracked.read(size)
        assert whole(tracked) == LINES
        assert start + tracked.read() == LINES
        assert tracked.read() == b""
        assert whole(tracked) == LINES

    def test_f3_half_copied(self, framing: Framing) -> None:
        """F3: it reads the copy first, and then from the server's stream."""
        tracked = stream_of(framing(LINES))
        assert next(tracked.chunks(None))
        tracked.stop_copying(request_of(framing(b"")))
        assert tracked.readline() == b"one\n"
        rest = b"".join(iter(lambda: tracked.read(3), b""))
        assert rest == LINES[4:]

    def test_what_else_the_server_gives(self) -> None:
        """Other attributes of the server's stream, such as its socket, are found on this one."""
        raw = io.FileIO(os.devnull)
        with io.BufferedReader(raw) as server:
            assert stream_of({"wsgi.input": server}).raw is raw

    def test_f3_seek(self) -> None:
        """F3: it is seekable where the server's stream is."""
        tracked = stream_of(as_file(LINES))
        assert tracked.read(5) == LINES[:5]
        assert tracked.seekable()
        assert tracked.seek(0) == 0
        assert (tracked.read(3), tracked.tell()) == (b"one", 3)
        assert (tracked.seek(1, io.SEEK_CUR), tracked.read(3)) == (4, b"two")
        assert (tracked.seek(-5, io.SEEK_END), tracked.read()) == (9, b"three")
        assert (tracked.seek(100), tracked.read()) == (100, b"")
        assert whole(tracked) == LINES

    def test_f3_no_seek(self) -> None:
        """F3: it is not seekable where the server's stream is not."""
        tracked = stream_of(with_length(LINES))
        assert not tracked.seekable()
        with pytest.raises(io.UnsupportedOperation):
            tracked.seek(0)

    def test_f3_errors(self) -> None:
        """F3: an error of the server's stream is raised to the reader."""
        tracked = stream_of(chunked(b"some", ParseError("no terminator")))
        assert tracked.read(4) == b"some"
        with pytest.raises(ParseError):
            tracked.read(1)


class TestChunks:
    """What the library reads."""

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"\x00\xff" * 50, id="small"),
            pytest.param(b"x" * CHUNK_SIZE, id="one-chunk"),
            pytest.param(b"x" * (CHUNK_SIZE + 1), id="two-chunks"),
            pytest.param(LARGE, id="on-disk"),
        ],
    )
    def test_f8_whole(self, framing: Framing, content: bytes) -> None:
        """F8: it yields all bytes each time, in chunks of a limited size."""
        source = framing(content)
        if isinstance(source["wsgi.input"], io.RawIOBase):
            source["wsgi.input"].chunk_size = 50_000
        tracked = stream_of(source)
        for _ in range(2):
            chunks = list(tracked.chunks(None))
            assert b"".join(chunks) == content
            assert all(len(chunk) <= CHUNK_SIZE for chunk in chunks)

    def test_no_length_and_no_end(self) -> None:
        """Where nothing says how long the body is, it is empty, as for Werkzeug."""
        tracked = stream_of({"wsgi.input": Plain(b"not to be read")})
        assert whole(tracked) == b""
        assert tracked.read() == b""

    def test_f8_longer_than_announced(self) -> None:
        """F8: a middleware's stream is read to its end, whatever the announced length."""
        for framing in (as_file, ending):
            tracked = stream_of(framing(LINES) | {"CONTENT_LENGTH": "4"})
            assert whole(tracked) == LINES
            assert tracked.read() == LINES

    @pytest.mark.parametrize("got", [0, 4, 99])
    @pytest.mark.parametrize("framing", [with_length, as_file, ending])
    def test_w4_short(self, framing: Callable[..., dict[str, Any]], got: int) -> None:
        """W4: a body shorter than announced is incomplete."""
        tracked = stream_of(framing(b"x" * got, 100))
        with pytest.raises(ClientDisconnected):
            whole(tracked)

    @pytest.mark.parametrize("limit", [None, 4, 1000])
    @pytest.mark.parametrize(
        "error",
        [
            pytest.param(OSError("connection reset"), id="os-error"),
            pytest.param(ValueError("bad chunk"), id="value-error"),
            pytest.param(ParseError("no terminator"), id="gunicorn"),
            pytest.param(ClientDisconnected(), id="werkzeug"),
        ],
    )
    def test_w4_broken(self, error: Exception, limit: int | None) -> None:
        """W4: a chunked body that fails is incomplete, whatever the server raises."""
        tracked = stream_of(chunked(b"some", error))
        with pytest.raises(ClientDisconnected):
            whole(tracked, limit)

    def test_w4_broken_before(self) -> None:
        """W4: so it is when the application met the error and the server does not repeat it."""
        source = chunked(b"some", ParseError("no terminator"))
        tracked = stream_of(source)
        with pytest.raises(ParseError):
            tracked.read(), tracked.read()
        source["wsgi.input"]._error = None
        with pytest.raises(ClientDisconnected):
            whole(tracked)

    @pytest.mark.parametrize(("size", "fits"), [(9, True), (10, True), (11, False), (100, False)])
    def test_w4_limit(self, framing: Framing, size: int, fits: bool) -> None:
        """W4: a body over the limit is refused and not cut, and can still be read."""
        tracked = stream_of(framing(b"x" * size))
        if fits:
            assert whole(tracked, 10) == b"x" * size
        else:
            for _ in range(2):
                with pytest.raises(RequestEntityTooLarge):
                    whole(tracked, 10)
        assert b"".join(iter(lambda: tracked.read(3), b"")) == b"x" * size

    def test_w4_refused_by_the_stream(self) -> None:
        """W4: an HTTP error that Werkzeug's stream raises is not replaced."""
        tracked = stream_of(chunked(b"some", RequestEntityTooLarge()))
        with pytest.raises(RequestEntityTooLarge):
            whole(tracked)


class TestMissing:
    """Bytes that were read before Flask was called."""

    @pytest.mark.parametrize("size", [1, 7, 100])
    def test_f8_seen_from_the_end(self, size: int) -> None:
        """F8: a file, and a stream that counts, show that bytes are missing."""
        source = as_file(LINES)
        source["wsgi.input"].read(size)
        tracked = stream_of(source)
        for _ in range(2):
            with pytest.raises(BytesMissingError):
                whole(tracked)

    def test_f8_gunicorn(self) -> None:
        """F8: gunicorn's stream shows it before it is read."""
        source = with_length(LINES) | {"wsgi.input_terminated": True}
        source["wsgi.input"] = GunicornBody(LengthReader(IterUnreader([LINES]), len(LINES)))
        source["wsgi.input"].read(3)
        with pytest.raises(BytesMissingError):
            whole(stream_of(source))

    def test_f8_dev_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """F8: the development server, which does not show it, is not waited for forever."""
        monkeypatch.setattr(server_inputs, "SILENCE_TIMEOUT", 0.01)
        client, server = socket.socketpair()
        with client, server, server.makefile("rb", -1) as file:
            client.sendall(LINES)
            file.read(3)
            source = {"wsgi.input": file, "werkzeug.socket": server, "CONTENT_LENGTH": "14"}
            tracked = stream_of(source)
            for _ in range(2):
                with pytest.raises(BytesMissingError):
                    whole(tracked)

    def test_f8_put_back(self) -> None:
        """F8: the bytes that a middleware has put back are the body."""
        source = with_length(LINES)
        source["wsgi.input"] = io.BytesIO(source["wsgi.input"].read())
        assert whole(stream_of(source)) == LINES

    def test_f8_after_the_copy(self) -> None:
        """F8: bytes that were read while nothing was copied are missing too."""
        tracked = stream_of(with_length(LINES))
        tracked.stop_copying(request_of(with_length(b"")))
        assert whole(tracked) == LINES
        tracked = stream_of(with_length(LINES))
        tracked.stop_copying(request_of(with_length(b"")))
        assert tracked.read(1) == b"o"
        with pytest.raises(BytesMissingError):
            whole(tracked)


class TestStopCopying:
    @pytest.mark.parametrize("size", [0, 3, len(LINES)])
    def test_f3_small(self, framing: Framing, size: int) -> None:
        """F3: a small body is read from memory, from where the reader was."""
        request = request_of(framing(LINES))
        tracked = track(request)
        start = tracked.read(size)
        while len(start) < size:
            start += tracked.read(size - len(start))
        assert whole(tracked) == LINES
        tracked.stop_copying(request)
        assert isinstance(request.environ["wsgi.input"], io.BytesIO)
        assert start + request.environ["wsgi.input"].read() == LINES
        assert whole(tracked) == LINES

    def test_w4_large(self) -> None:
        """W4: a large body is read from the disk."""
        request = request_of(with_length(LARGE))
        tracked = track(request)
        assert whole(tracked) == LARGE
        tracked.stop_copying(request)
        assert request.environ["wsgi.input"] is tracked
        assert request.get_data() == LARGE

    def test_f3_streams_stay(self) -> None:
        """F3: a stream that the application already has is left in its place."""
        request = request_of(with_length(LINES))
        tracked = track(request)
        stream = request.stream
        assert whole(tracked) == LINES
        tracked.stop_copying(request)
        assert request.stream is stream
        assert stream.read() == LINES
