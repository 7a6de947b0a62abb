"""Server inputs: what servers' streams show of how much was read from them."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from typing import IO, Any

import pytest
from gevent.pywsgi import Input
from gunicorn.http.body import Body, ChunkedReader, EOFReader, LengthReader
from gunicorn.http.unreader import IterUnreader
from werkzeug.serving import DechunkedInput

from flask_idempotent.http import server_inputs
from flask_idempotent.http.server_inputs import (
    ClientSilentError,
    announced_length,
    bytes_left,
    bytes_read,
    is_partly_read,
    read_with_timeout,
)
from tests.support.request_bodies import Plain

CHUNKS = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


class Req:
    """What gunicorn's chunked reader asks of a request."""

    limit_request_field_size = max_buffer_headers = 1000


def gunicorn(content: bytes = b"abcde") -> Any:
    return Body(LengthReader(IterUnreader([content]), len(content)))


def gunicorn_chunked(content: bytes = CHUNKS) -> Any:
    return Body(ChunkedReader(Req(), IterUnreader([content])))


def gevent(content: bytes = b"abcde") -> Any:
    return Input(io.BytesIO(content), len(content))


def gevent_chunked(content: bytes = CHUNKS) -> Any:
    return Input(io.BytesIO(content), None, chunked_input=True)


def dev_chunked(content: bytes = CHUNKS) -> Any:
    return DechunkedInput(io.BytesIO(content))


class TestAnnouncedLength:
    @pytest.mark.parametrize(
        ("environ", "length"),
        [
            pytest.param({"CONTENT_LENGTH": "5"}, 5, id="said"),
            pytest.param({"CONTENT_LENGTH": "0"}, 0, id="empty"),
            pytest.param({}, None, id="not-said"),
            pytest.param({"CONTENT_LENGTH": ""}, 0, id="nothing-said"),
            pytest.param({"CONTENT_LENGTH": "-5"}, 0, id="negative"),
            pytest.param({"CONTENT_LENGTH": "five"}, 0, id="no-number"),
            pytest.param({"CONTENT_LENGTH": "²"}, 0, id="no-decimal"),
            pytest.param(
                {"CONTENT_LENGTH": "5", "HTTP_TRANSFER_ENCODING": "chunked"}, None, id="chunked"
            ),
        ],
    )
    def test_as_werkzeug(self, environ: dict[str, str], length: int | None) -> None:
        """It is the length that Werkzeug finds in the request's headers."""
        assert announced_length(environ) == length


class TestBytesLeft:
    def test_f8_gunicorn(self) -> None:
        """F8: gunicorn counts down from the announced length, without what it has read ahead."""
        body = gunicorn()
        assert bytes_left(body) == 5
        body.read(2)
        assert bytes_left(body) == 3
        body.readline()
        assert bytes_left(body) == 0

    @pytest.mark.parametrize(
        "stream",
        [gunicorn_chunked(), Body(EOFReader(IterUnreader([b"x"]))), gevent(), io.BytesIO(b"x")],
        ids=["chunked", "no-length", "gevent", "file"],
    )
    def test_nobody_else(self, stream: IO[bytes]) -> None:
        """No other server shows it."""
        assert bytes_left(stream) is None


class TestBytesGiven:
    @pytest.mark.parametrize("make", [gevent, io.BytesIO], ids=["gevent", "file"])
    def test_f8_counted(self, make: Any) -> None:
        """F8: gevent counts what was read, and a file has a position."""
        stream = make(b"abcde")
        assert bytes_read(stream) == 0
        stream.read(2)
        assert bytes_read(stream) == 2

    def test_not_counted(self) -> None:
        """Others do not, such as the socket's file of the development server."""
        with socket.socket() as connection, connection.makefile("rb") as file:
            assert bytes_read(file) is None
        assert bytes_read(Plain(b"abc")) is None  # type: ignore[arg-type]
        closed = io.BytesIO()
        closed.close()
        assert bytes_read(closed) is None


class TestHasBegun:
    @pytest.mark.parametrize(
        "make", [gunicorn_chunked, gevent_chunked, dev_chunked],
        ids=["gunicorn", "gevent", "dev-server"],
    )  # fmt: skip
    @pytest.mark.parametrize("size", [2, 100])
    def test_f8_chunked(self, make: Any, size: int) -> None:
        """F8: a stream shows that a part, or all, of a chunked body was read."""
        stream = make()
        assert not is_partly_read(stream)
        stream.read(size)
        assert is_partly_read(stream)

    def test_f8_empty(self) -> None:
        """F8: so it does for an empty body."""
        for make in (gunicorn_chunked, gevent_chunked, dev_chunked):
            stream = make(b"0\r\n\r\n")
            assert not is_partly_read(stream)
            assert stream.read() == b""
            assert is_partly_read(stream)

    def test_f8_file(self) -> None:
        """F8: so does a file, on servers that receive the whole body first."""
        stream = io.BytesIO(b"body")
        assert not is_partly_read(stream)
        stream.read(2)
        assert is_partly_read(stream)

    def test_others(self) -> None:
        """A stream that does not show how much was read counts as unread."""
        stream: Any = Plain(b"body")
        stream.read(2)
        assert not is_partly_read(stream)


class TestReadPatiently:
    @pytest.fixture
    def pair(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        client, server = socket.socketpair()
        with client, server:
            yield client, server

    @pytest.fixture
    def stream(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> Iterator[tuple[socket.socket, IO[bytes]]]:
        """The connection of the development server to its client, and its input."""
        with pair[1].makefile("rb", -1) as file:
            yield pair[1], file

    def test_what_is_there(
        self, pair: tuple[socket.socket, socket.socket], stream: tuple[socket.socket, IO[bytes]]
    ) -> None:
        """Bytes that have arrived are returned, also from the stream's buffer."""
        pair[0].sendall(b"a line\nand more")
        assert stream[1].readline() == b"a line\n"
        assert read_with_timeout(*stream, 100) == b"and more"
        assert pair[1].gettimeout() is None

    def test_what_is_to_come(
        self, pair: tuple[socket.socket, socket.socket], stream: tuple[socket.socket, IO[bytes]]
    ) -> None:
        """Bytes that have not arrived are waited for."""
        sending = threading.Timer(0.05, pair[0].sendall, [b"late"])
        sending.start()
        assert read_with_timeout(*stream, 100) == b"late"
        sending.join()

    def test_end(
        self, pair: tuple[socket.socket, socket.socket], stream: tuple[socket.socket, IO[bytes]]
    ) -> None:
        """Nothing is returned when the client has closed its connection."""
        pair[0].shutdown(socket.SHUT_WR)
        assert read_with_timeout(*stream, 100) == b""

    def test_f8_silence(
        self, stream: tuple[socket.socket, IO[bytes]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """F8: bytes that were read before are not waited for forever."""
        monkeypatch.setattr(server_inputs, "SILENCE_TIMEOUT", 0.01)
        with pytest.raises(ClientSilentError):
            read_with_timeout(*stream, 100)

    def test_others(self) -> None:
        """The stream of another server is read as usual."""
        assert read_with_timeout(None, io.BytesIO(b"abc"), 2) == b"ab"
