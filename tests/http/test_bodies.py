"""Bodies: read whole before the view, which reads them as if the library had not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, jsonify, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from flask_idempotent.http.bodies import Body
from flask_idempotent.http.tracked_input import BytesMissingError
from tests.conftest import MakeApp
from tests.support.request_bodies import (
    MULTIPART,
    URLENCODED,
    Source,
    as_file,
    chunked,
    ending,
    request_of,
    with_length,
)

FRAMINGS = [with_length, as_file, ending, chunked]
Framing = Callable[..., dict[str, Any]]
KEY = "__idempotent_key"
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


def body_of(framing: dict[str, Any], content_type: str = "", limit: int | None = None) -> Body:
    return Body(request_of(framing, content_type), limit)


def digested(body: Body) -> tuple[bytes, list[str]]:
    """A form as it is digested, and the values of the key's field."""
    content = bytearray()
    values = body.update_digest(content.extend, frozenset({KEY, "csrf_token"}), KEY)
    return bytes(content), values


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
        assert body_of(with_length(b""), content_type).is_form is form


class TestRead:
    @pytest.mark.parametrize("framing", FRAMINGS)
    @pytest.mark.parametrize(
        ("size", "fits"), [(9, True), (10, True), (11, False), (100, False)]
    )  # fmt: skip
    def test_w4_limit(self, framing: Framing, size: int, fits: bool) -> None:
        """W4: a body over MAX_CONTENT_LENGTH is refused and never cut; one of exactly it is not."""
        body = body_of(framing(b"x" * size), limit=10)
        if fits:
            body.read()
            assert b"".join(body.chunks()) == b"x" * size
        else:
            with pytest.raises(RequestEntityTooLarge):
                body.read()

    def test_w4_nothing_is_read_of_what_is_too_large(self) -> None:
        """W4: a body with too large a Content-Length is refused without reading it."""
        source = with_length(b"x" * 11)
        with pytest.raises(RequestEntityTooLarge):
            body_of(source, limit=10).read()
        assert source["wsgi.input"].read() == b"x" * 11

    def test_w4_short(self) -> None:
        """W4: a body shorter than its Content-Length is refused."""
        with pytest.raises(ClientDisconnected):
            body_of(with_length(b"x", 2)).read()


class TestLookFor:
    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_k7_values(self, framing: Framing) -> None:
        """K7: two different values of the field are found, each once."""
        form = b"&".join(b"__idempotent_key=" + value for value in (b"a", b"a", b"b", b"c"))
        body = body_of(framing(form), URLENCODED)
        assert body.find_field(KEY) == ["a", "b"]
        assert b"".join(body.chunks()) == form
        assert body.stopped_because is None

    def test_k7_multipart(self) -> None:
        """K7: so they are in a multipart form."""
        form = FILE.replace(b'name="a"', b'name="__idempotent_key"') % b"x"
        assert body_of(with_length(form), MULTIPART).find_field(KEY) == ["1"]

    def test_k7_text(self) -> None:
        """K7: a value that is not ASCII stays so."""
        body = body_of(with_length(b"__idempotent_key=%C3%BC"), URLENCODED)
        assert not body.find_field(KEY)[0].isascii()

    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_w7_limit_ends_the_look(self, framing: Framing) -> None:
        """W7: the limit stops the search and refuses nothing; a value before it counts."""
        form = b"__idempotent_key=k&b=2&__idempotent_key=l"
        body = body_of(framing(form), URLENCODED, limit=25)
        assert body.find_field(KEY) == ["k"]
        assert body.stopped_because == "it is longer than 25 bytes"
        with pytest.raises(RequestEntityTooLarge):
            body.read()

    def test_w7_parts(self) -> None:
        """W7: the limit for the parts of a form stops the search too."""
        request = request_of(with_length(FILE % b"x"), MULTIPART)
        request.max_form_parts = 1
        body = Body(request, None)
        assert body.find_field("a") == []
        assert body.stopped_because == "it has more than 1 parts"

    def test_w7_taken(self) -> None:
        """W7: missing bytes, which were read before, stop the search too."""
        source = as_file(b"__idempotent_key=k")
        source["wsgi.input"].read()
        body = body_of(source, URLENCODED)
        assert body.find_field(KEY) == []
        assert body.stopped_because == "bytes of it were read before Flask was called"

    def test_w4_short(self) -> None:
        """W4: half a form is refused, because the key may be in the other half."""
        with pytest.raises(ClientDisconnected):
            body_of(with_length(b"a=1", 10), URLENCODED).find_field(KEY)


class TestPassForm:
    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_f2_fields_are_left_out(self, framing: Framing) -> None:
        """F2: the key and what changes with each retry are left out, and the key is found."""
        content, values = digested(
            body_of(framing(b"a=1&__idempotent_key=k&csrf_token=t"), URLENCODED)
        )
        assert values == ["k"]
        assert (content, []) == digested(body_of(framing(b"a=1"), URLENCODED))

    def test_w7_no_limits_of_forms(self) -> None:
        """W7: the limits for forms refuse nothing: a view that reads the bytes has none."""
        request = request_of(with_length(FILE % (b"x" * 1000)), MULTIPART)
        request.max_form_parts = request.max_form_memory_size = 1
        content, _ = digested(Body(request, None))
        assert b"x" * 1000 in content

    def test_w4_limit(self) -> None:
        """W4: the limit for bodies does refuse a form."""
        with pytest.raises(RequestEntityTooLarge):
            digested(body_of(with_length(b"a=1"), URLENCODED, limit=2))

    def test_f8_taken(self) -> None:
        """F8: missing bytes refuse a form too."""
        source = as_file(b"a=1")
        source["wsgi.input"].read(1)
        with pytest.raises(BytesMissingError):
            digested(body_of(source, URLENCODED))

    @pytest.mark.parametrize(
        "content_type",
        [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\xfc",
        ],
    )
    def test_f9_no_boundary(self, content_type: str) -> None:
        """F9: a form without a boundary is digested as it was sent."""
        form = FILE % b"x"
        content, values = digested(body_of(with_length(form), content_type))
        assert values == []
        assert content.startswith(form)


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


def as_stream_in_chunks() -> Any:
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
    as_stream_in_chunks, as_wsgi_input, as_form_then_data, as_data_then_form, as_data_then_stream,
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
        """However a view reads its request, it reads what it would read without us."""
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
                **chunked(octets),
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
        """A view has the form that ``before_request`` has parsed, and its key counts."""
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
        """Two JSON bodies differ, also where ``before_request`` has asked for form fields."""
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
        """An incomplete body is reported as one, with the key where it was in a header."""
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
