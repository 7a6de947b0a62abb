"""Responses of a whole application: the first is as without the library, the replay is equal."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, redirect, request, send_file, stream_with_context
from werkzeug.test import EnvironBuilder, TestResponse, run_wsgi_app
from werkzeug.wrappers import Response

from tests.conftest import MakeApp

KEY = {"Idempotency-Key": "k"}


def no_content() -> Any:
    return "", 204


def no_content_with_text() -> Any:
    return "dropped", 204


def see_other() -> Any:
    return redirect("/done?ü=1", 303)


def created() -> Any:
    return {"id": 7}, 201, {"Location": "/orders/7", "ETag": '"v1"', "Link": "</a>; rel=a"}


def two_links() -> Any:
    response = Response("x")
    for value in ("</a>; rel=a", "</b>; rel=b"):
        response.headers.add("Link", value)
    return response


def binary() -> Any:
    return Response(bytes(range(256)) * 40, mimetype="application/octet-stream")


def empty() -> Any:
    return ""


def latin_1_headers() -> Any:
    return "x", {"X-Name": "J\xfcrgen \xa3", "Content-Disposition": "attachment; filename=\xe9"}


def as_json() -> Any:
    return [1, None, {"ü": "鍵"}]


def problem() -> Any:
    return {"title": "no"}, 422, {"Content-Type": "application/problem+json"}


def own_phrase() -> Any:
    return "x", "299 Very Fine"


def generator() -> Any:
    return Response(str(number) for number in range(100))


def empty_generator() -> Any:
    return Response(iter(()))


def with_context() -> Any:
    return Response(stream_with_context(request.method for _ in range(3)))


def file_on_disk() -> Any:
    return send_file(__file__)


def file_in_memory() -> Any:
    return send_file(io.BytesIO(b"\x00" * 1000), "image/png", True, "ü.png")


def untyped() -> Any:
    response = Response("x")
    del response.headers["Content-Type"]
    return response


VIEWS = [
    no_content, no_content_with_text, see_other, created, two_links, binary, empty, latin_1_headers,
    as_json, problem, own_phrase, generator, empty_generator, with_context, file_on_disk,
    file_in_memory, untyped,
]  # fmt: skip


def headers_of(answer: TestResponse) -> list[tuple[str, str]]:
    """The headers without those of each single answer and the mark of a replay."""
    made = ("date", "content-length", "idempotent-replayed")
    return [(name, value) for name, value in answer.headers if name.lower() not in made]


def serve(app: Flask, view: Callable[[], Any], **options: Any) -> Flask:
    app.add_url_rule("/", view_func=view, methods=["GET", "POST"], **options)
    return app


@pytest.fixture(name="app")
def _app(make_app: MakeApp) -> Flask:
    """An application whose duplicates do not wait, so that a claim that is left shows at once."""
    return make_app(timeout=0)


class TestOnFlask:
    @pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
    def test_r3_r5_first_and_replay(self, make_app: MakeApp, view: Callable[[], Any]) -> None:
        """R3, R5: the first answer is as without the library, and its replay is equal to it."""
        without = serve(make_app(wide=False), view).test_client()
        plain = without.post("/", headers=KEY, buffered=True)
        client = serve(make_app(timeout=0), view).test_client()
        first, again = (client.post("/", headers=KEY, buffered=True) for _ in range(2))
        for answer in (first, again):
            assert answer.status == plain.status
            assert answer.data == plain.data
            assert headers_of(answer) == headers_of(plain)
        assert first.headers.get("Content-Length") == plain.headers.get("Content-Length")
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        length = None if again.status_code == 204 else str(len(again.data))
        assert again.headers.get("Content-Length") == length

    def test_r1_cookies_are_not_replayed(self, app: Flask) -> None:
        """R1: a cookie is sent to the first caller alone."""
        serve(app, lambda: ("x", {"Set-Cookie": "a=1"}))
        client = app.test_client(use_cookies=False)
        assert client.post("/", headers=KEY).headers["Set-Cookie"] == "a=1"
        assert "Set-Cookie" not in client.post("/", headers=KEY).headers

    @pytest.mark.parametrize("streamed", [False, True])
    def test_r3_call_on_close(self, app: Flask, streamed: bool) -> None:
        """R3: ``call_on_close`` runs once, at the end, and not at a replay."""
        closed = []

        def view() -> Response:
            response = Response(iter(["a", "b"]) if streamed else "ab")
            response.call_on_close(lambda: closed.append(1))
            return response

        client = serve(app, view).test_client()
        for _ in range(2):
            with client.post("/", headers=KEY) as answer:
                assert answer.data == b"ab"
        assert closed == [1]

    def test_r3_first_chunk_comes_first(self, app: Flask) -> None:
        """R3: a stream's first chunk is sent before its second is made."""
        made = []

        def chunks() -> Iterator[str]:
            for number in range(3):
                made.append(number)
                yield str(number)

        serve(app, lambda: Response(chunks()))
        body, _, _ = run_wsgi_app(app, environ())
        assert next(iter(body)) == b"0"
        assert len(made) < 3
        assert b"".join(body) == b"12"

    @pytest.mark.parametrize(
        "read",
        [
            pytest.param(0, id="unread"),
            pytest.param(1, id="half-read"),
        ],
    )
    def test_broken_off_by_the_client(self, app: Flask, read: int) -> None:
        """A stream whose client goes away is not kept: a retry gets 409 and runs nothing."""
        runs = []

        def view() -> Response:
            runs.append(1)
            return Response(str(number) for number in range(9))

        serve(app, view)
        body = app.wsgi_app(environ(), lambda *_: lambda _: None)
        for _ in range(read):
            next(iter(body))
        body.close()  # type: ignore[attr-defined]
        assert_not_kept(app)
        assert runs == [1]

    def test_broken_by_the_view(self, app: Flask) -> None:
        """A stream that raises is not kept, and its error reaches the server."""

        def chunks() -> Iterator[str]:
            yield "a"
            raise LookupError("half-way")

        serve(app, lambda: Response(chunks()))
        with pytest.raises(LookupError):
            app.test_client().post("/", headers=KEY, buffered=True)
        assert_not_kept(app)

    def test_replaced_by_after_request(self, app: Flask) -> None:
        """A stream that nobody reads, because its response was replaced, is not kept."""
        app.after_request(lambda _: Response("instead"))
        serve(app, lambda: Response(iter(["a"])))
        assert app.test_client().post("/", headers=KEY).data == b"instead"
        gc.collect()
        app.after_request_funcs.clear()
        assert_not_kept(app)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_max_body(self, make_app: MakeApp, streamed: bool) -> None:
        """A body over ``max_body`` reaches the first caller whole, and a retry gets 409."""

        def view() -> Response:
            return Response(iter([b"x" * 60, b"x" * 60]) if streamed else b"x" * 120)

        app = serve(make_app(max_body=100, timeout=0), view)
        first = app.test_client().post("/", headers=KEY)
        assert (first.status_code, len(first.data)) == (200, 120)
        assert_not_kept(app)

    def test_max_body_of_a_file(self, make_app: MakeApp, tmp_path: Path) -> None:
        """So does a file over ``max_body``."""
        (tmp_path / "file").write_bytes(b"x" * 101)
        app = serve(make_app(max_body=100, timeout=0), lambda: send_file(tmp_path / "file"))
        first = app.test_client().post("/", headers=KEY, buffered=True)
        assert len(first.data) == 101
        assert_not_kept(app)

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            pytest.param({"Range": "bytes=0-3"}, 206, id="R6-206"),
            pytest.param({"If-None-Match": '"v1"'}, 304, id="R6-304"),
        ],
    )
    def test_parts_are_passed_through(
        self, make_app: MakeApp, headers: dict[str, str], status: int
    ) -> None:
        """R6: a 206 and a 304 of a view reach the client and are never stored."""
        app = make_app(store_if=lambda response: True)

        @app.get("/")
        def view() -> Any:
            return send_file(io.BytesIO(b"0123456789"), "text/plain", conditional=True, etag="v1")

        client = app.test_client()
        for _ in range(2):
            answer = client.get("/", headers={**KEY, **headers})
            assert answer.status_code == status
            assert answer.data == (b"0123" if status == 206 else b"")
            assert "Idempotent-Replayed" not in answer.headers

    def test_r3_stream_of_the_request(self, app: Flask) -> None:
        """R3: a response may read the request's stream after the view has returned."""

        def view() -> Response:
            stream = request.stream
            return Response(iter(lambda: stream.read(3), b""))

        client = serve(app, view).test_client()
        for _ in range(2):
            assert client.post("/", data=b"0123456789", headers=KEY).data == b"0123456789"


def environ() -> dict[str, Any]:
    return EnvironBuilder(method="POST", headers=KEY).get_environ()


def assert_not_kept(app: Flask) -> None:
    answer = app.test_client().post("/", headers=KEY)
    assert answer.status_code == 409
    document = answer.get_json(force=True)
    assert document["type"] == "urn:flask-idempotent:problem:response-not-kept"
