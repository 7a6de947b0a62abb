"""Bodies: read whole before the view, and as untouched for it as if nobody had looked."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, jsonify, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_idempotent.bodies import PIECE_SIZE, SPOOL_SIZE, Body, read_pieces
from flask_idempotent.problems import BodyIncomplete
from tests.conftest import MakeApp

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
BASE = "https://p/"


class Source(io.RawIOBase):
    """A server's stream: gives its octets in small pieces, then ends or breaks."""

    def __init__(self, octets: bytes, error: Exception | None = None, piece: int = 7) -> None:
        self._rest = io.BytesIO(octets)
        self._error = error
        self._piece = piece

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._rest.read(min(len(buffer), self._piece))
        if not piece and self._error is not None:
            raise self._error
        buffer[: len(piece)] = piece
        return len(piece)


class WithoutReadinto:
    """A server's stream that has ``read`` alone, which is all that WSGI asks for."""

    def __init__(self, source: io.RawIOBase) -> None:
        self.read = source.read


class ParseError(Exception):
    """Stands for gunicorn's errors on a truncated chunked body, which are no OSError."""


def announced(octets: bytes, length: int | None = None, **environ: Any) -> Request:
    """A request with a Content-Length, on a server that does not end the stream itself."""
    return Request(
        {
            **EnvironBuilder(method="POST").get_environ(),
            "wsgi.input": io.BytesIO(octets),
            "CONTENT_LENGTH": str(len(octets) if length is None else length),
            **environ,
        }
    )


def on_gunicorn(octets: bytes, length: int | None = None) -> Request:
    """A request with a Content-Length, on a server that ends the stream itself."""
    stream = WithoutReadinto(Source(octets))
    return announced(octets, length, **{"wsgi.input": stream, "wsgi.input_terminated": True})


def chunked(octets: bytes, error: Exception | None = None, **environ: Any) -> Request:
    """A request in chunks."""
    request = Request(
        {
            **EnvironBuilder(method="POST").get_environ(),
            "wsgi.input": Source(octets, error),
            "wsgi.input_terminated": True,
            "HTTP_TRANSFER_ENCODING": "chunked",
            **environ,
        }
    )
    request.environ.pop("CONTENT_LENGTH", None)
    return request


SERVERS = [
    pytest.param(announced, id="dev-server"),
    pytest.param(on_gunicorn, id="gunicorn"),
    pytest.param(chunked, id="chunked"),
]
MakeRequest = Callable[..., Request]


def buffered(request: Request) -> Body:
    body = Body(request, request.max_content_length)
    body.buffer(BASE)
    return body


class TestIsForm:
    @pytest.mark.parametrize(
        ("content_type", "form"),
        [
            (URLENCODED, True),
            ("Application/X-WWW-Form-URLencoded; charset=utf-8", True),
            (MULTIPART, True),
            ("multipart/mixed; boundary=b", False),
            ("application/json", False),
            ("", False),
        ],
    )
    def test_by_type(self, content_type: str, form: bool) -> None:
        """A body is a form by its media type, whatever its case and parameters."""
        assert Body(announced(b"", CONTENT_TYPE=content_type), None).is_form is form


class TestBuffer:
    @pytest.mark.parametrize("make", SERVERS)
    @pytest.mark.parametrize(
        "octets",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"\x00\xff" * 50, id="small"),
            pytest.param(b"x" * PIECE_SIZE, id="one-piece"),
            pytest.param(b"x" * (PIECE_SIZE + 1), id="two-pieces"),
            pytest.param(b"x" * SPOOL_SIZE, id="spool-size"),
        ],
    )
    def test_f3_body_is_there_again(self, make: MakeRequest, octets: bytes) -> None:
        """The body is read whole, its pieces can be had, and the view reads it once more."""
        request = make(octets)
        body = buffered(request)
        assert b"".join(body.pieces()) == octets
        assert b"".join(body.pieces()) == octets
        assert request.get_data() == octets

    @pytest.mark.parametrize("make", SERVERS)
    def test_f3_twice_is_once(self, make: MakeRequest) -> None:
        """Reading the body a second time does nothing."""
        request = make(b"body")
        body = buffered(request)
        stream = request.environ["wsgi.input"]
        body.buffer(BASE)
        assert request.environ["wsgi.input"] is stream
        assert request.get_data() == b"body"

    def test_f3_stream_in_pieces(self) -> None:
        """The view may read the stream a piece at a time, also at the limit's exact size."""
        request = announced(b"0123456789")
        request.max_content_length = 10
        buffered(request)
        assert list(iter(lambda: request.stream.read(3), b"")) == [b"012", b"345", b"678", b"9"]

    def test_no_length_and_no_end(self) -> None:
        """Where nobody knows the end of a stream, there is no body, as without us."""
        request = announced(b"not to be read")
        del request.environ["CONTENT_LENGTH"]
        body = buffered(request)
        assert b"".join(body.pieces()) == b""
        assert request.get_data() == b""

    @pytest.mark.parametrize("make", [announced, chunked])
    def test_w4_large_bodies_go_to_disk(self, make: MakeRequest) -> None:
        """A body above 512 KiB is kept in a file, and the view reads it from there."""
        octets = bytes(range(256)) * (SPOOL_SIZE // 256) + b"!"
        request = make(octets)
        body = buffered(request)
        spooled = request.environ["wsgi.input"]
        assert isinstance(spooled, tempfile.SpooledTemporaryFile)
        assert spooled.name is not None
        assert b"".join(body.pieces()) == octets
        assert request.get_data() == octets

    def test_small_bodies_stay_in_memory(self) -> None:
        """A body up to 512 KiB makes no file."""
        request = announced(b"x" * SPOOL_SIZE)
        buffered(request)
        assert isinstance(request.environ["wsgi.input"], io.BytesIO)


class TestIncomplete:
    @pytest.mark.parametrize("make", [announced, on_gunicorn])
    @pytest.mark.parametrize("got", [0, 4, 99])
    def test_w4_short_body(self, make: MakeRequest, got: int) -> None:
        """A body shorter than its Content-Length is incomplete."""
        with pytest.raises(BodyIncomplete) as raised:
            buffered(make(b"x" * got, 100))
        assert raised.value.type == "https://p/body-incomplete"

    @pytest.mark.parametrize("limit", [None, 1000])
    @pytest.mark.parametrize(
        "error",
        [
            pytest.param(OSError("connection reset"), id="W4-os-error"),
            pytest.param(ValueError("bad chunk"), id="W4-value-error"),
            pytest.param(ParseError("no terminator"), id="W4-gunicorn"),
            pytest.param(ClientDisconnected(), id="W4-werkzeug"),
        ],
    )
    def test_broken_chunks(self, error: Exception, limit: int | None) -> None:
        """A chunked body that breaks off is incomplete, whatever the server raises."""
        request = chunked(b"some", error)
        request.max_content_length = limit
        with pytest.raises(BodyIncomplete):
            buffered(request)

    def test_w4_error_behind_the_limit(self) -> None:
        """A chunked body that breaks off exactly at the limit is incomplete."""
        request = chunked(b"x" * 10, ParseError("no terminator"))
        request.max_content_length = 10
        with pytest.raises(BodyIncomplete):
            buffered(request)


class TestTooLarge:
    @pytest.mark.parametrize("make", SERVERS)
    @pytest.mark.parametrize(
        ("size", "fits"), [(9, True), (10, True), (11, False), (100, False)]
    )  # fmt: skip
    def test_w4_limit(self, make: MakeRequest, size: int, fits: bool) -> None:
        """A body over MAX_CONTENT_LENGTH is refused and never cut; one of exactly it is not."""
        request = make(b"x" * size)
        request.max_content_length = 10
        if fits:
            buffered(request)
            assert request.get_data() == b"x" * size
        else:
            with pytest.raises(RequestEntityTooLarge):
                buffered(request)

    def test_w4_limit_beyond_a_piece(self) -> None:
        """The limit holds for chunked bodies of many pieces too."""
        request = chunked(b"x" * (3 * PIECE_SIZE))
        request.max_content_length = 2 * PIECE_SIZE
        with pytest.raises(RequestEntityTooLarge):
            buffered(request)


class TestReadBefore:
    """A ``before_request`` function has been at the body."""

    def test_f3_data(self) -> None:
        """What ``get_data`` has cached is the body."""
        request = announced(b"body")
        request.get_data()
        body = buffered(request)
        assert list(body.pieces()) == [b"body"]
        assert request.get_data() == b"body"

    def test_f3_form(self) -> None:
        """A form that was parsed is taken from there, and may mention any field."""
        request = announced(b"a=1", CONTENT_TYPE=URLENCODED)
        assert request.form
        body = buffered(request)
        assert body.mentions("anything")
        with body.form() as (fields, files):
            assert (fields, files) == (request.form, request.files)

    @pytest.mark.parametrize("make", SERVERS)
    def test_f1_form_of_another_type(self, make: MakeRequest) -> None:
        """Looking for form fields in JSON, as CSRF protection does, hides no body."""
        request = make(b'{"a": 1}')
        request.environ["CONTENT_TYPE"] = "application/json"
        assert not request.form
        body = buffered(request)
        assert b"".join(body.pieces()) == b'{"a": 1}'
        assert request.get_json() == {"a": 1}

    def test_w4_form_of_another_type(self) -> None:
        """So is half of such a body noticed."""
        request = on_gunicorn(b'{"a"', 100)
        request.environ["CONTENT_TYPE"] = "application/json"
        assert not request.form
        with pytest.raises(BodyIncomplete):
            buffered(request)

    def test_f1_form_and_data_of_another_type(self) -> None:
        """Looking for form fields and reading JSON leaves the cached octets."""
        request = announced(b'{"a": 1}', CONTENT_TYPE="application/json")
        assert not request.form
        assert request.get_json() == {"a": 1}
        assert list(buffered(request).pieces()) == [b'{"a": 1}']

    def test_stream(self) -> None:
        """A stream that somebody else reads is left to them."""
        request = announced(b"body")
        stream = request.stream
        assert stream.read(1) == b"b"
        assert list(buffered(request).pieces()) == [b""]
        assert stream.read() == b"ody"


FILE = b"""--b\r
Content-Disposition: form-data; name="f"; filename="f.txt"\r
Content-Type: text/plain\r
\r
%s\r
--b\r
Content-Disposition: form-data; name="a"\r
\r
1\r
--b--\r
"""


class TestForm:
    def test_urlencoded(self) -> None:
        """The fields of a form can be looked at, and the view parses it again."""
        request = announced(b"a=1&b=2&a=%C3%BC", CONTENT_TYPE=URLENCODED)
        with buffered(request).form() as (fields, files):
            assert fields.to_dict(flat=False) == {"a": ["1", "ü"], "b": ["2"]}
            assert not files
        assert request.form.getlist("a") == ["1", "ü"]

    @pytest.mark.parametrize("size", [0, 5, SPOOL_SIZE + 1])
    def test_multipart(self, size: int) -> None:
        """Files can be looked at too; ours are closed, the view's are its own."""
        request = announced(FILE % (b"x" * size), CONTENT_TYPE=MULTIPART)
        with buffered(request).form() as (fields, files):
            assert fields["a"] == "1"
            assert files["f"].read() == b"x" * size
        assert files["f"].closed
        assert request.files["f"].read() == b"x" * size
        request.close()

    def test_files_are_closed_after_an_error(self) -> None:
        """An error while looking leaves no file open and the body at its beginning."""
        request = announced(FILE % b"x", CONTENT_TYPE=MULTIPART)
        seen = []

        def look() -> None:
            with buffered(request).form() as (_, files):
                seen.append(files["f"])
                raise LookupError

        with pytest.raises(LookupError):
            look()
        assert seen[0].closed
        assert request.form["a"] == "1"
        request.close()

    @pytest.mark.parametrize(
        ("octets", "content_type"),
        [
            pytest.param(b"a=\xff", URLENCODED, id="no-utf-8"),
            pytest.param(b"a=1", "multipart/form-data", id="no-boundary"),
            pytest.param(b"a=1", MULTIPART, id="no-parts"),
            pytest.param(FILE[:40], MULTIPART, id="half"),
        ],
    )
    def test_malformed(self, octets: bytes, content_type: str) -> None:
        """What is no form is empty and said to be none; the view finds it empty too."""
        request = announced(octets, CONTENT_TYPE=content_type)
        body = buffered(request)
        assert not body.malformed
        with body.form() as (fields, files):
            assert not fields
            assert not files
        assert body.malformed
        assert b"".join(body.pieces()) == octets
        assert not request.form

    @pytest.mark.parametrize("limit", ["max_form_memory_size", "max_form_parts"])
    def test_w4_limits_of_forms(self, limit: str) -> None:
        """The application's limits on forms hold, before anything is claimed."""
        part = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n123\r\n'
        request = announced(2 * part + b"--b--\r\n", CONTENT_TYPE=MULTIPART)
        setattr(request, limit, 1)
        body = buffered(request)
        with pytest.raises(RequestEntityTooLarge), body.form():
            pytest.fail("such a form must not be parsed")


class TestMentions:
    @pytest.mark.parametrize(
        ("octets", "field", "expected"),
        [
            pytest.param(b"a=1&key=2", "key", True, id="there"),
            pytest.param(b"a=1&b=2", "key", False, id="not-there"),
            pytest.param(b"", "key", False, id="empty"),
            pytest.param(b"k%65y=2", "key", True, id="encoded"),
            pytest.param(b"my+key=2", "my key", True, id="space-as-plus"),
            pytest.param("schlüssel=2".encode(), "schlüssel", True, id="utf-8"),
            pytest.param(b"x" * (PIECE_SIZE - 1) + b"key", "key", True, id="across-pieces"),
            pytest.param(b"x" * (PIECE_SIZE - 2) + b"key", "key", True, id="across-pieces-late"),
            pytest.param(b"x" * (3 * PIECE_SIZE) + b"key", "key", True, id="far-behind"),
            pytest.param(b"x" * (3 * PIECE_SIZE) + b"ke", "key", False, id="only-begun"),
        ],
    )
    def test_k7(self, octets: bytes, field: str, expected: bool) -> None:
        """A form that has the field is always noticed; the view still reads the whole body."""
        request = announced(octets)
        assert buffered(request).mentions(field) is expected
        assert request.get_data() == octets


class TestReadPieces:
    def test_piece_size(self) -> None:
        """No piece is larger than the piece size."""
        pieces = list(read_pieces(io.BytesIO(b"x" * (2 * PIECE_SIZE + 1))))
        assert [len(piece) for piece in pieces] == [PIECE_SIZE, PIECE_SIZE, 1]


# What a view may do with a request, each way on its own.


def as_data() -> Any:
    return request.get_data().hex()


def as_data_property() -> Any:
    return request.data.hex()


def as_form() -> Any:
    return request.form.to_dict(flat=False)


def as_files() -> Any:
    return [
        (name, file.filename, file.content_type, file.read().hex())
        for name, file in request.files.items(multi=True)
    ]


def as_values() -> Any:
    return request.values.to_dict(flat=False)


def as_json() -> Any:
    return request.get_json(silent=True)


def as_stream() -> Any:
    return request.stream.read().hex()


def as_stream_in_pieces() -> Any:
    return b"".join(iter(lambda: request.stream.read(3), b"")).hex()


def as_wsgi_input() -> Any:
    length = request.content_length
    return request.environ["wsgi.input"].read(length or 0).hex()


def as_form_then_data() -> Any:
    return [as_form(), as_data()]


def as_data_then_form() -> Any:
    return [as_data(), as_form()]


def as_data_then_stream() -> Any:
    return [as_data(), as_stream()]


def as_lengths() -> Any:
    return [request.content_length, request.content_type, request.mimetype, request.is_json]


WAYS = [
    as_data, as_data_property, as_form, as_files, as_values, as_json, as_stream,
    as_stream_in_pieces, as_wsgi_input, as_form_then_data, as_data_then_form, as_data_then_stream,
    as_lengths,
]  # fmt: skip


CONTENTS: list[Any] = [
    pytest.param(dict, id="empty"),
    pytest.param(lambda: {"json": {"a": [1, None, "ü"]}}, id="json"),
    pytest.param(
        lambda: {"data": b"{broken", "content_type": "application/json"}, id="broken-json"
    ),
    pytest.param(lambda: {"data": {"a": ["1", "2"], "b": "ü &="}}, id="urlencoded"),
    pytest.param(lambda: {"data": b"a=\xff", "content_type": URLENCODED}, id="no-form"),
    pytest.param(lambda: {"data": FILE % b"\x00file", "content_type": MULTIPART}, id="multipart"),
    pytest.param(lambda: {"data": b"x", "content_type": MULTIPART}, id="no-multipart"),
    pytest.param(lambda: {"data": b"\x00\xff", "content_type": "image/png"}, id="binary"),
    pytest.param(lambda: {"data": b"untyped"}, id="untyped"),
]


@pytest.fixture(name="pair")
def _pair(make_app: MakeApp) -> tuple[Flask, Flask]:
    """An application without us and the same one with us."""
    apps = make_app(wide=False), make_app()
    for app in apps:
        for way in WAYS:
            app.add_url_rule(
                f"/{way.__name__}",
                way.__name__,
                lambda way=way: jsonify(way()),
                methods=["POST"],
            )
    return apps


def look_for_fields() -> None:
    """What CSRF protection does before each request, whatever its body."""
    request.form.get("csrf_token")


class TestViews:
    @pytest.mark.parametrize("content", CONTENTS)
    @pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
    def test_f3_untouched(
        self, pair: tuple[Flask, Flask], way: Callable[[], Any], content: Callable[[], Any]
    ) -> None:
        """Whatever way a view reads its request, it reads what it would read without us."""
        without, with_us = pair
        expected = without.test_client().post(f"/{way.__name__}?q=1", **content())
        headers = {"Idempotency-Key": "k"}
        first = with_us.test_client().post(f"/{way.__name__}?q=1", headers=headers, **content())
        assert expected.status_code == first.status_code == 200
        assert first.json == expected.json

    @pytest.mark.parametrize("way", [as_data, as_stream, as_json])
    def test_f3_chunked(self, pair: tuple[Flask, Flask], way: Callable[[], Any]) -> None:
        """A chunked body is read as it would be without us."""
        octets = json.dumps({"a": "x" * 1000}).encode()

        def ask(app: Flask) -> Any:
            environ = {
                "wsgi.input": Source(octets),
                "wsgi.input_terminated": True,
                "HTTP_TRANSFER_ENCODING": "chunked",
                "HTTP_IDEMPOTENCY_KEY": "k",
            }
            return app.test_client().post(
                f"/{way.__name__}", content_type="application/json", environ_overrides=environ
            )

        first, expected = map(ask, pair)
        assert first.status_code == expected.status_code == 200
        assert first.json == expected.json
        assert first.json

    def test_f3_form_read_by_before_request(self, make_app: MakeApp) -> None:
        """A form that ``before_request`` has parsed is the view's as well, and its key counts."""
        app = make_app()
        runs = []
        app.before_request(look_for_fields)

        @app.post("/")
        def view() -> dict[str, Any]:
            runs.append(1)
            return {"form": request.form, "file": request.files["f"].read().decode()}

        for _ in range(2):
            data = {"__idempotent_key": "k", "a": "1", "f": (io.BytesIO(b"file"), "f.txt")}
            answer = app.test_client().post("/", data=data)
            assert answer.json == {"form": {"__idempotent_key": "k", "a": "1"}, "file": "file"}
        assert len(runs) == 1

    def test_f4_json_behind_csrf_protection(self, make_app: MakeApp) -> None:
        """Two JSON bodies are two, also where ``before_request`` has looked for form fields."""
        app = make_app()
        app.before_request(look_for_fields)

        @app.post("/")
        def view() -> Any:
            return request.get_json()

        client, headers = app.test_client(), {"Idempotency-Key": "k"}
        assert client.post("/", json={"a": 1}, headers=headers).json == {"a": 1}
        assert client.post("/", json={"a": 1}, headers=headers).json == {"a": 1}
        assert client.post("/", json={"a": 2}, headers=headers).status_code == 422

    @pytest.mark.parametrize(
        ("environ", "status"),
        [
            pytest.param({"CONTENT_LENGTH": "100"}, 400, id="W4-short"),
            pytest.param({"CONTENT_LENGTH": "5000"}, 413, id="W4-too-large"),
            pytest.param(
                {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked",
                 "wsgi.input_terminated": True, "wsgi.input": Source(b"x" * 1001)},
                413, id="W4-chunked-too-large",
            ),
        ],
    )  # fmt: skip
    def test_nothing_is_claimed(
        self, make_app: MakeApp, environ: dict[str, Any], status: int
    ) -> None:
        """A body that is incomplete or too large claims nothing; the whole request then runs."""
        app = make_app(config={"MAX_CONTENT_LENGTH": 1000})
        app.add_url_rule("/", view_func=lambda: request.get_data(), methods=["POST"])
        client, headers = app.test_client(), {"Idempotency-Key": "k"}
        bad = client.post("/", data=b"half", headers=headers, environ_overrides=environ)
        assert bad.status_code == status
        good = client.post("/", data=b"whole", headers=headers)
        assert (good.status_code, good.data) == (200, b"whole")
        assert "Idempotent-Replayed" not in good.headers

    def test_w4_incomplete_says_so(self, make_app: MakeApp) -> None:
        """An incomplete body is told as such, with the key where it was in a header."""
        app = make_app()
        app.add_url_rule("/", view_func=lambda: "", methods=["POST"])
        answer = app.test_client().post(
            "/",
            data=b"half",
            headers={"Idempotency-Key": "k"},
            environ_overrides={"CONTENT_LENGTH": "100"},
        )
        document = answer.get_json(force=True)
        assert document["type"] == "urn:flask-idempotent:problem:body-incomplete"
        assert document["idempotency_key"] == "k"
