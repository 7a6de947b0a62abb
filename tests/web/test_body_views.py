"""A view reads its body in any way, and reads what it would read without the library."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, jsonify, request

from tests.conftest import MakeApp
from tests.support.request_bodies import (
    FILE,
    MULTIPART,
    URLENCODED,
    Source,
    chunked,
)


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
        body = json.dumps({"a": "x" * 1000}).encode()

        def ask(app: Flask) -> Any:
            environ = {
                **chunked(body),
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
