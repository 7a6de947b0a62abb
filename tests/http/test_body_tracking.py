"""Body tracking: a copy of what is read, for whom nothing changes who reads."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable
from typing import IO, Any

import pytest
from gunicorn.http.body import Body as GunicornBody
from gunicorn.http.body import LengthReader
from gunicorn.http.unreader import IterUnreader
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.wrappers import Request

from flask_idempotent.http import server_inputs
from flask_idempotent.http.body_tracking import (
    PIECE_SIZE,
    BodyTakenError,
    TrackedInput,
    track,
    tracked,
)
from flask_idempotent.http.spools import SPOOL_SIZE
from tests.support.request_bodies import (
    MULTIPART,
    URLENCODED,
    ParseError,
    Plain,
    as_file,
    chunked,
    ending,
    request_of,
    with_length,
)

Framing = Callable[[bytes], dict[str, Any]]

FRAMINGS = [with_length, as_file, ending, chunked]
LINES = b"one\ntwo\n\nthree"
LARGE = bytes(range(256)) * (SPOOL_SIZE // 256 + 1)


@pytest.fixture(params=FRAMINGS, ids=lambda framing: framing.__name__)
def framing(request: pytest.FixtureRequest) -> Framing:
    """Each way in which a server hands over a body."""
    found: Framing = request.param
    return found


def tracked_input(framing: dict[str, Any]) -> TrackedInput:
    return track(request_of(framing))


def whole(stream: TrackedInput, limit: int | None = None) -> bytes:
    return b"".join(stream.pieces(limit))


class TestReading:
    """What the application reads."""

    def test_f3_every_way(self) -> None:
        """F3: it reads what the server's own stream would give."""

        def read(stream: Any) -> list[Any]:
            buffer = bytearray(2)
            return [
                stream.read(0), stream.readline(), stream.read(1), stream.readline(1),
                stream.readinto(buffer), buffer, stream.read(None), stream.read(),
                stream.readline(),
            ]  # fmt: skip

        tracked = tracked_input(with_length(LINES))
        assert read(tracked) == read(io.BytesIO(LINES))
        assert whole(tracked) == LINES

    def test_f3_lines(self, framing: Framing) -> None:
        """F3: it can be iterated over, also in the middle of what was copied."""
        tracked = tracked_input(framing(LINES))
        assert tracked.read(2) == b"on"
        assert whole(tracked) == LINES
        assert list(tracked) == [b"e\n", b"two\n", b"\n", b"three"]

    @pytest.mark.parametrize("size", [0, 1, 5, 100])
    def test_f3_goes_on(self, framing: Framing, size: int) -> None:
        """F3: who has read a part goes on behind it, whatever we have read in between."""
        tracked = tracked_input(framing(LINES))
        start = b"".join(iter(lambda: tracked.read(1), b"")) if size > 99 else tracked.read(size)
        assert whole(tracked) == LINES
        assert start + tracked.read() == LINES
        assert tracked.read() == b""
        assert whole(tracked) == LINES

    def test_f3_half_copied(self, framing: Framing) -> None:
        """F3: it reads from the copy and goes on at the server's."""
        tracked = tracked_input(framing(LINES))
        assert next(tracked.pieces(None))
        tracked.hand_over(request_of(framing(b"")))
        assert tracked.readline() == b"one\n"
        rest = b"".join(iter(lambda: tracked.read(3), b""))
        assert rest == LINES[4:]

    def test_what_else_the_server_gives(self) -> None:
        """What is behind the server's stream, such as its socket, is found behind this one."""
        raw = io.FileIO(os.devnull)
        with io.BufferedReader(raw) as server:
            assert tracked_input({"wsgi.input": server}).raw is raw

    def test_f3_seek(self) -> None:
        """F3: where the server's stream can be set back, so can this one."""
        tracked = tracked_input(as_file(LINES))
        assert tracked.read(5) == LINES[:5]
        assert tracked.seekable()
        assert tracked.seek(0) == 0
        assert (tracked.read(3), tracked.tell()) == (b"one", 3)
        assert (tracked.seek(1, io.SEEK_CUR), tracked.read(3)) == (4, b"two")
        assert (tracked.seek(-5, io.SEEK_END), tracked.read()) == (9, b"three")
        assert (tracked.seek(100), tracked.read()) == (100, b"")
        assert whole(tracked) == LINES

    def test_f3_no_seek(self) -> None:
        """F3: where it cannot, nor can this one."""
        tracked = tracked_input(with_length(LINES))
        assert not tracked.seekable()
        with pytest.raises(io.UnsupportedOperation):
            tracked.seek(0)

    def test_f3_errors(self) -> None:
        """F3: an error of the server's stream is its reader's."""
        tracked = tracked_input(chunked(b"some", ParseError("no terminator")))
        assert tracked.read(4) == b"some"
        with pytest.raises(ParseError):
            tracked.read(1)


class TestPieces:
    """What the library reads."""

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"\x00\xff" * 50, id="small"),
            pytest.param(b"x" * PIECE_SIZE, id="a-piece"),
            pytest.param(b"x" * (PIECE_SIZE + 1), id="two-pieces"),
            pytest.param(LARGE, id="on-disk"),
        ],
    )
    def test_f8_whole(self, framing: Framing, content: bytes) -> None:
        """F8: all bytes come, again and again, in pieces that are not too large."""
        source = framing(content)
        if isinstance(source["wsgi.input"], io.RawIOBase):
            source["wsgi.input"]._piece = 50_000  # type: ignore[attr-defined]
        tracked = tracked_input(source)
        for _ in range(2):
            pieces = list(tracked.pieces(None))
            assert b"".join(pieces) == content
            assert all(len(piece) <= PIECE_SIZE for piece in pieces)

    def test_no_length_and_no_end(self) -> None:
        """Where nobody knows the end of a stream, there is no body, as without us."""
        tracked = tracked_input({"wsgi.input": Plain(b"not to be read")})
        assert whole(tracked) == b""
        assert tracked.read() == b""

    def test_f8_longer_than_announced(self) -> None:
        """F8: a stream that a middleware has put there counts to its end, whatever it announced."""
        for framing in (as_file, ending):
            tracked = tracked_input(framing(LINES) | {"CONTENT_LENGTH": "4"})
            assert whole(tracked) == LINES
            assert tracked.read() == LINES

    @pytest.mark.parametrize("got", [0, 4, 99])
    @pytest.mark.parametrize("framing", [with_length, as_file, ending])
    def test_w4_short(self, framing: Callable[..., dict[str, Any]], got: int) -> None:
        """W4: a body shorter than announced is incomplete."""
        tracked = tracked_input(framing(b"x" * got, 100))
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
        """W4: a chunked body that breaks off is incomplete, whatever the server raises."""
        tracked = tracked_input(chunked(b"some", error))
        with pytest.raises(ClientDisconnected):
            whole(tracked, limit)

    def test_w4_broken_before(self) -> None:
        """W4: it stays so where somebody has met the error and the server says no more of it."""
        source = chunked(b"some", ParseError("no terminator"))
        tracked = tracked_input(source)
        with pytest.raises(ParseError):
            tracked.read(), tracked.read()
        source["wsgi.input"]._error = None
        with pytest.raises(ClientDisconnected):
            whole(tracked)

    @pytest.mark.parametrize(("size", "fits"), [(9, True), (10, True), (11, False), (100, False)])
    def test_w4_limit(self, framing: Framing, size: int, fits: bool) -> None:
        """W4: a body over the limit is never cut; it is too large, and still there to be read."""
        tracked = tracked_input(framing(b"x" * size))
        if fits:
            assert whole(tracked, 10) == b"x" * size
        else:
            for _ in range(2):
                with pytest.raises(RequestEntityTooLarge):
                    whole(tracked, 10)
        assert b"".join(iter(lambda: tracked.read(3), b"")) == b"x" * size

    def test_w4_refused_by_the_stream(self) -> None:
        """W4: what a stream of Werkzeug's refuses is refused with its words."""
        tracked = tracked_input(chunked(b"some", RequestEntityTooLarge()))
        with pytest.raises(RequestEntityTooLarge):
            whole(tracked)


class TestTaken:
    """Bytes that were read before Flask had its turn."""

    @pytest.mark.parametrize("size", [1, 7, 100])
    def test_f8_seen_from_the_end(self, size: int) -> None:
        """F8: of a file, and of a stream that counts, one sees that bytes are missing."""
        source = as_file(LINES)
        source["wsgi.input"].read(size)
        tracked = tracked_input(source)
        for _ in range(2):
            with pytest.raises(BodyTakenError):
                whole(tracked)

    def test_f8_gunicorn(self) -> None:
        """F8: gunicorn knows at once."""
        source = with_length(LINES) | {"wsgi.input_terminated": True}
        source["wsgi.input"] = GunicornBody(LengthReader(IterUnreader([LINES]), len(LINES)))
        source["wsgi.input"].read(3)
        with pytest.raises(BodyTakenError):
            whole(tracked_input(source))

    def test_f8_dev_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """F8: the development server, which knows nothing, is not waited for for ever."""
        monkeypatch.setattr(server_inputs, "SILENCE", 0.01)
        client, server = socket.socketpair()
        with client, server, server.makefile("rb", -1) as file:
            client.sendall(LINES)
            file.read(3)
            source = {"wsgi.input": file, "werkzeug.socket": server, "CONTENT_LENGTH": "14"}
            tracked = tracked_input(source)
            for _ in range(2):
                with pytest.raises(BodyTakenError):
                    whole(tracked)

    def test_f8_put_back(self) -> None:
        """F8: what a middleware has put back is the body."""
        source = with_length(LINES)
        source["wsgi.input"] = io.BytesIO(source["wsgi.input"].read())
        assert whole(tracked_input(source)) == LINES

    def test_f8_after_the_copy(self) -> None:
        """F8: so are bytes taken that were read when nobody copied them."""
        tracked = tracked_input(with_length(LINES))
        tracked.hand_over(request_of(with_length(b"")))
        assert whole(tracked) == LINES
        tracked = tracked_input(with_length(LINES))
        tracked.hand_over(request_of(with_length(b"")))
        assert tracked.read(1) == b"o"
        with pytest.raises(BodyTakenError):
            whole(tracked)


class TestTrack:
    """Requests whose body is tracked from now on, though somebody may have been at it."""

    def test_once(self) -> None:
        """A request is tracked once."""
        request = request_of(with_length(LINES))
        assert tracked(request) is track(request) is tracked(request)
        assert request.environ["wsgi.input"] is tracked(request)

    def test_another_body_in_the_same_environment(self) -> None:
        """A request that an application makes of another one has a body of its own."""
        request = request_of(with_length(LINES))
        track(request)
        inner = Request(request.environ | with_length(b"inner"))
        assert whole(track(inner)) == b"inner"

    def test_f3_data(self, framing: Framing) -> None:
        """F3: what ``get_data`` has cached is the body, and stays cached."""
        request = request_of(framing(LINES))
        assert request.get_data() == LINES
        if framing is chunked:
            with pytest.raises(BodyTakenError):
                whole(track(request))
        else:
            assert whole(track(request)) == LINES
        assert request.get_data() == LINES

    def test_w4_half_of_the_data(self) -> None:
        """W4: also when it is only a half."""
        request = request_of(ending(LINES, 100))
        assert request.get_data() == LINES
        with pytest.raises(ClientDisconnected):
            whole(track(request))

    @pytest.mark.parametrize("framing", [with_length, as_file])
    def test_f3_untouched_stream(self, framing: Framing) -> None:
        """F3: a stream that is there, but unread, reads from the copy afterwards."""
        request = request_of(framing(LINES))
        assert request.stream
        assert whole(track(request)) == LINES
        assert request.stream.read() == LINES

    def test_f3_form_of_another_type(self, framing: Framing) -> None:
        """F3: looking for form fields in JSON, as CSRF protection does, hides no body."""
        request = request_of(framing(LINES), "application/json")
        assert not request.form
        if framing is ending:
            # Nobody can say whether this server's stream was only touched.
            with pytest.raises(BodyTakenError):
                whole(track(request))
        else:
            assert whole(track(request)) == LINES
            assert request.get_data() == LINES

    @pytest.mark.parametrize(
        "read",
        [
            pytest.param(lambda request: request.form, id="form"),
            pytest.param(lambda request: request.stream.read(1), id="peek"),
            pytest.param(lambda request: request.get_data(cache=False), id="uncached"),
        ],
    )
    @pytest.mark.parametrize("framing", [with_length, as_file, ending])
    def test_f8_lost(self, framing: Framing, read: Callable[[Request], object]) -> None:
        """F8: what nobody has any more is lost."""
        request = request_of(framing(b"a=1&b=2"), URLENCODED)
        read(request)
        with pytest.raises(BodyTakenError):
            whole(track(request))

    def test_f8_unknown_stream(self) -> None:
        """F8: so may be what is behind a stream of the application's own."""
        request = request_of(with_length(LINES))
        request.stream = io.BytesIO(b"own")
        with pytest.raises(BodyTakenError):
            whole(track(request))
        assert request.stream.read() == b"own"


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n12345\r\n--b--\r\n'
)


class Sealed(io.BytesIO):
    """An upload stream that is written and never read."""

    def seek(self, *_: Any) -> int:
        return 0

    tell = None  # type: ignore[assignment]


class TestShow:
    """Functions of the application that are called with the request."""

    def test_f8_everything(self, framing: Framing) -> None:
        """F8: such a function may read all of it in any way, and nobody notices."""
        request = request_of(framing(FORM), MULTIPART)
        tracked = track(request)
        for read in (
            lambda request: request.get_data(),
            lambda request: request.get_data(cache=False),
            lambda request: request.data,
            lambda request: request.stream.read(),
            lambda request: request.environ["wsgi.input"].read(len(FORM)),
        ):
            assert tracked.show(request, read) in (FORM, b"")
        assert request.stream.read() == FORM
        request.close()

    def test_f8_form(self) -> None:
        """F8: a form without files is parsed again by the view."""
        request = request_of(with_length(b"a=1"), URLENCODED)
        assert track(request).show(request, lambda request: request.form["a"]) == "1"
        assert request.stream.read() == b"a=1"
        assert not request.form

    def test_f8_files(self) -> None:
        """F8: files are made once, and the view reads them from their beginning."""
        request = request_of(with_length(FORM), MULTIPART)
        file = track(request).show(request, lambda request: request.files["f"])
        assert track(request).show(request, lambda _: file.read(2)) == b"12"
        assert request.files["f"] is file
        assert file.read() == b"12345"
        assert request.get_data() == b""
        request.close()

    @pytest.mark.parametrize("first", ["form", "files", "data", "values"])
    def test_f3_form_or_bytes(self, framing: Framing, first: str) -> None:
        """F3: a view that asks for the form has no bytes left; one that reads these has all."""
        request = request_of(framing(FORM), MULTIPART)
        for _ in range(2):
            file = track(request).show(request, lambda request: request.files["f"])
        assert track(request).show(request, lambda request: request.get_data()) == FORM
        getattr(request, first)
        assert request.get_data() == b""
        assert request.files["f"] is file
        request.close()

    def test_f3_files_are_closed(self) -> None:
        """F3: the files are closed with the request, also where its view has not looked at them."""
        request = request_of(with_length(FORM), MULTIPART)
        file = track(request).show(request, lambda request: request.files["f"])
        assert request.stream.read() == FORM
        assert not file.stream.closed
        request.close()
        assert file.stream.closed

    def test_f8_files_that_were_there(self) -> None:
        """F8: files that were parsed before stand where they stood."""
        request = request_of(with_length(FORM), MULTIPART)
        tracked = track(request)
        assert request.files["f"].read(2) == b"12"
        assert tracked.show(request, lambda request: request.files["f"].read()) == b"345"
        assert request.files["f"].read() == b"345"
        request.close()

    def test_f8_files_that_cannot_be_read(self) -> None:
        """F8: an upload stream for writing only is left alone."""
        request = request_of(with_length(FORM), MULTIPART)
        request._get_file_stream = lambda *_, **__: Sealed()  # type: ignore[method-assign]
        file = track(request).show(request, lambda request: request.files["f"])
        assert isinstance(file, FileStorage)
        assert track(request).show(request, lambda request: request.files["f"]) is file
        assert file.stream.getvalue() == b"12345"  # type: ignore[attr-defined]

    def test_f8_from_the_beginning(self, framing: Framing) -> None:
        """F8: it sees the whole body, also where the application has read some or all of it."""
        for size in (3, len(LINES)):
            request = request_of(framing(LINES))
            tracked = track(request)
            stream, start = request.stream, request.stream.read(size)
            assert tracked.show(request, lambda request: request.get_data()) == LINES
            assert request.stream is stream
            assert start + stream.read() == LINES

    def test_f8_errors(self) -> None:
        """F8: what it read is put back also when it fails."""
        request = request_of(with_length(LINES))

        def fail(request: Request) -> None:
            raise LookupError(request.stream.read(3))

        with pytest.raises(LookupError):
            track(request).show(request, fail)
        assert request.stream.read() == LINES

    @pytest.mark.parametrize("where", ["stream", "input"])
    def test_f8_a_stream_of_the_applications(self, where: str) -> None:
        """F8: what the application has put there itself is what such a function reads."""
        request = request_of(with_length(LINES))
        tracked = track(request)
        own: IO[bytes] = io.BytesIO(b"decompressed")
        if where == "stream":
            request.stream = own
        else:
            request.environ.update({"wsgi.input": own, "CONTENT_LENGTH": "12"})
        assert tracked.show(request, lambda request: request.get_data()) == b"decompressed"
        assert whole(tracked) == LINES

    def test_f8_a_stream_of_the_functions(self) -> None:
        """F8: a stream that such a function puts there stays there."""
        request = request_of(with_length(LINES))

        def replace(request: Request) -> None:
            request.stream = io.BytesIO(b"its own")

        track(request).show(request, replace)
        assert request.stream.read() == b"its own"


class TestHandOver:
    @pytest.mark.parametrize("size", [0, 3, len(LINES)])
    def test_f3_small(self, framing: Framing, size: int) -> None:
        """F3: a small body is read from memory, from where its reader was."""
        request = request_of(framing(LINES))
        tracked = track(request)
        start = tracked.read(size)
        while len(start) < size:
            start += tracked.read(size - len(start))
        assert whole(tracked) == LINES
        tracked.hand_over(request)
        assert isinstance(request.environ["wsgi.input"], io.BytesIO)
        assert start + request.environ["wsgi.input"].read() == LINES
        assert whole(tracked) == LINES

    def test_w4_large(self) -> None:
        """W4: a large one is read from the disk."""
        request = request_of(with_length(LARGE))
        tracked = track(request)
        assert whole(tracked) == LARGE
        tracked.hand_over(request)
        assert request.environ["wsgi.input"] is tracked
        assert request.get_data() == LARGE

    def test_f3_streams_stay(self) -> None:
        """F3: a stream that somebody has is left in its place."""
        request = request_of(with_length(LINES))
        tracked = track(request)
        stream = request.stream
        assert whole(tracked) == LINES
        tracked.hand_over(request)
        assert request.stream is stream
        assert stream.read() == LINES

    def test_f8_shown_afterwards(self) -> None:
        """F8: what was handed over can be shown, and is put back."""
        request = request_of(with_length(LINES))
        tracked = track(request)
        assert whole(tracked) == LINES
        tracked.hand_over(request)
        assert request.environ["wsgi.input"].read(3) == b"one"
        assert tracked.show(request, lambda request: request.get_data()) == LINES
        assert request.environ["wsgi.input"].read() == LINES[3:]
