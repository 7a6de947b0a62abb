"""Body tracking: bodies are tracked whatever has read them before, and functions may read them."""

from __future__ import annotations

import gc
import io
import weakref
from collections.abc import Callable
from typing import IO, Any

import pytest
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wrappers import Request

from flask_idempotent.http.body_tracking import call_with_body, track, tracked_input
from flask_idempotent.http.tracked_input import BytesMissingError
from tests.support.request_bodies import (
    LINES,
    MULTIPART,
    URLENCODED,
    Framing,
    as_file,
    chunked,
    ending,
    request_of,
    whole,
    with_length,
)


class TestTrack:
    """Requests that are tracked after something may have read from their body."""

    def test_once(self) -> None:
        """A request is tracked once."""
        request = request_of(with_length(LINES))
        assert tracked_input(request) is track(request) is tracked_input(request)
        assert request.environ["wsgi.input"] is tracked_input(request)

    def test_another_body_in_the_same_environment(self) -> None:
        """A request that was made from another one's environment has a body of its own."""
        request = request_of(with_length(LINES))
        track(request)
        inner = Request(request.environ | with_length(b"inner"))
        assert whole(track(inner)) == b"inner"

    def test_f3_data(self, framing: Framing) -> None:
        """F3: bytes that ``get_data`` has cached are the body, and stay cached."""
        request = request_of(framing(LINES))
        assert request.get_data() == LINES
        if framing is chunked:
            with pytest.raises(BytesMissingError):
                whole(track(request))
        else:
            assert whole(track(request)) == LINES
        assert request.get_data() == LINES

    def test_w4_half_of_the_data(self) -> None:
        """W4: half a body that is cached is incomplete."""
        request = request_of(ending(LINES, 100))
        assert request.get_data() == LINES
        with pytest.raises(ClientDisconnected):
            whole(track(request))

    @pytest.mark.parametrize("framing", [with_length, as_file])
    def test_f3_untouched_stream(self, framing: Framing) -> None:
        """F3: a stream that exists and is unread reads from the copy afterwards."""
        request = request_of(framing(LINES))
        assert request.stream
        assert whole(track(request)) == LINES
        assert request.stream.read() == LINES

    def test_f3_form_of_another_type(self, framing: Framing) -> None:
        """F3: asking for form fields of a JSON body, as CSRF protection does, loses nothing."""
        request = request_of(framing(LINES), "application/json")
        assert not request.form
        if framing is ending:
            # This server's stream does not show whether it was read.
            with pytest.raises(BytesMissingError):
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
        """F8: bytes that were read and not kept are missing."""
        request = request_of(framing(b"a=1&b=2"), URLENCODED)
        read(request)
        with pytest.raises(BytesMissingError):
            whole(track(request))

    def test_f8_unknown_stream(self) -> None:
        """F8: bytes may be missing behind a stream of the application's own."""
        request = request_of(with_length(LINES))
        request.stream = io.BytesIO(b"own")
        with pytest.raises(BytesMissingError):
            whole(track(request))
        assert request.stream.read() == b"own"


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n12345\r\n--b--\r\n'
)


class Sealed(io.BytesIO):
    """A write-only upload stream."""

    def seek(self, *_: Any) -> int:
        return 0

    tell = None  # type: ignore[assignment]


class TestCallWithBody:
    """Functions of the application that are called with the request."""

    def test_f8_everything(self, framing: Framing) -> None:
        """F8: a function may read the whole body in any way, and the view does not notice."""
        request = request_of(framing(FORM), MULTIPART)
        track(request)
        for read in (
            lambda request: request.get_data(),
            lambda request: request.get_data(cache=False),
            lambda request: request.data,
            lambda request: request.stream.read(),
            lambda request: request.environ["wsgi.input"].read(len(FORM)),
        ):
            assert call_with_body(request, read) in (FORM, b"")
        assert request.stream.read() == FORM
        request.close()

    def test_f8_form(self) -> None:
        """F8: a form without files is parsed again by the view."""
        request = request_of(with_length(b"a=1"), URLENCODED)
        assert call_with_body(request, lambda request: request.form["a"]) == "1"
        assert request.stream.read() == b"a=1"
        assert not request.form

    def test_f8_files(self) -> None:
        """F8: files are made once, and the view reads them from their beginning."""
        request = request_of(with_length(FORM), MULTIPART)
        file = call_with_body(request, lambda request: request.files["f"])
        assert call_with_body(request, lambda _: file.read(2)) == b"12"
        assert request.files["f"] is file
        assert file.read() == b"12345"
        assert request.get_data() == b""
        request.close()

    @pytest.mark.parametrize("first", ["form", "files", "data", "values"])
    def test_f3_form_or_bytes(self, framing: Framing, first: str) -> None:
        """F3: a view that asks for the form has no bytes left; one that does not has all."""
        request = request_of(framing(FORM), MULTIPART)
        for _ in range(2):
            file = call_with_body(request, lambda request: request.files["f"])
        assert call_with_body(request, lambda request: request.get_data()) == FORM
        getattr(request, first)
        assert request.get_data() == b""
        assert request.files["f"] is file
        request.close()

    def test_f3_files_are_closed(self) -> None:
        """F3: files are closed with the request, also when the view has not used them."""
        request = request_of(with_length(FORM), MULTIPART)
        file = call_with_body(request, lambda request: request.files["f"])
        assert request.stream.read() == FORM
        assert not file.stream.closed
        request.close()
        assert file.stream.closed

    def test_f3_request_is_let_go(self) -> None:
        """F3: a request whose form was parsed is freed at its end, with its body and its files."""
        request = request_of(with_length(FORM), MULTIPART)
        call_with_body(request, lambda request: request.files["f"])
        request.close()
        request.environ.clear()
        reference = weakref.ref(request)
        gc.disable()
        try:
            del request
            assert reference() is None
        finally:
            gc.enable()

    def test_f8_files_that_were_there(self) -> None:
        """F8: files that were parsed before keep their position."""
        request = request_of(with_length(FORM), MULTIPART)
        track(request)
        assert request.files["f"].read(2) == b"12"
        assert call_with_body(request, lambda request: request.files["f"].read()) == b"345"
        assert request.files["f"].read() == b"345"
        request.close()

    def test_f8_files_that_cannot_be_read(self) -> None:
        """F8: a write-only upload stream is left alone."""
        request = request_of(with_length(FORM), MULTIPART)
        request._get_file_stream = lambda *_, **__: Sealed()  # type: ignore[method-assign]
        file = call_with_body(request, lambda request: request.files["f"])
        assert isinstance(file, FileStorage)
        assert call_with_body(request, lambda request: request.files["f"]) is file
        assert file.stream.getvalue() == b"12345"  # type: ignore[attr-defined]

    def test_f8_from_the_beginning(self, framing: Framing) -> None:
        """F8: it reads the whole body, also where the application has read some or all of it."""
        for size in (3, len(LINES)):
            request = request_of(framing(LINES))
            track(request)
            stream, start = request.stream, request.stream.read(size)
            assert call_with_body(request, lambda request: request.get_data()) == LINES
            assert request.stream is stream
            assert start + stream.read() == LINES

    def test_f8_errors(self) -> None:
        """F8: what it read is undone also when it raises."""
        request = request_of(with_length(LINES))

        def fail(request: Request) -> None:
            raise LookupError(request.stream.read(3))

        with pytest.raises(LookupError):
            call_with_body(request, fail)
        assert request.stream.read() == LINES

    @pytest.mark.parametrize("where", ["stream", "input"])
    def test_f8_a_stream_of_the_applications(self, where: str) -> None:
        """F8: it reads from a stream that the application has put in place."""
        request = request_of(with_length(LINES))
        tracked = track(request)
        own: IO[bytes] = io.BytesIO(b"decompressed")
        if where == "stream":
            request.stream = own
        else:
            request.environ.update({"wsgi.input": own, "CONTENT_LENGTH": "12"})
        assert call_with_body(request, lambda request: request.get_data()) == b"decompressed"
        assert whole(tracked) == LINES

    def test_f8_a_stream_of_the_functions(self) -> None:
        """F8: a stream that it puts in place stays."""
        request = request_of(with_length(LINES))

        def replace(request: Request) -> None:
            request.stream = io.BytesIO(b"its own")

        call_with_body(request, replace)
        assert request.stream.read() == b"its own"

    def test_f8_shown_afterwards(self) -> None:
        """F8: it reads the whole body also after the view has begun to read it from memory."""
        request = request_of(with_length(LINES))
        tracked = track(request)
        assert whole(tracked) == LINES
        tracked.stop_copying(request)
        assert request.environ["wsgi.input"].read(3) == b"one"
        assert call_with_body(request, lambda request: request.get_data()) == LINES
        assert request.environ["wsgi.input"].read() == LINES[3:]
