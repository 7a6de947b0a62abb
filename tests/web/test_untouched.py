"""Applications that handle bodies in their own way do not notice the library."""

from __future__ import annotations

import gzip
import io
import tempfile
from typing import IO, Any

import pytest
from flask import Request, request
from werkzeug.exceptions import ClientDisconnected

from flask_idempotent import SettingsError, idempotent
from tests.conftest import MakeApp
from tests.support.clients import WayIn, post, problem
from tests.support.request_bodies import KEY, MULTIPART, URLENCODED, form_of, send

LARGE = b"0123456789" * 100_000


class WriteOnly(io.RawIOBase):
    """A write-only upload stream, as one that sends a file on to a bucket."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.content += data
        return len(data)

    def seek(self, *_: Any) -> int:
        return 0


class TestUploadStreams:
    @pytest.mark.parametrize("key", ["k", None])
    @pytest.mark.parametrize("in_form", [True, False])
    def test_w7_made_once(self, way: WayIn, key: str | None, in_form: bool) -> None:
        """W7: the application's upload streams are made once for each file, by its view."""
        made: list[WriteOnly] = []

        class OwnRequest(Request):
            def _get_file_stream(self, *_: Any, **__: Any) -> IO[bytes]:  # type: ignore[override]
                made.append(WriteOnly())
                return made[-1]  # type: ignore[return-value]

        app = way.app()
        app.request_class = OwnRequest

        @app.post("/")
        @way
        def view() -> list[str]:
            return list(request.files)

        body = form_of("one", "two")
        if not in_form:
            body = body.replace(KEY.encode(), b"other")
        answer = send(app, body, MULTIPART, key)
        assert answer.json == ["one", "two"]
        assert [stream.content for stream in made] == [b"content", b"content"]
        if key or in_form:
            assert send(app, body, MULTIPART, key).headers["Idempotent-Replayed"] == "true"
            assert len(made) == 2


class TestOwnStreams:
    @pytest.mark.parametrize("when", ["before_request", "above"])
    def test_f8_decompressed(self, make_app: MakeApp, when: str) -> None:
        """F8: a view reads from its application's own stream; the bytes sent are compared."""
        app = make_app(wide=False)

        def decompress() -> None:
            request.stream = gzip.GzipFile(fileobj=request.stream)  # type: ignore[assignment]

        @idempotent
        def view() -> bytes:
            return request.get_data()

        def above() -> bytes:
            decompress()
            return view()

        if when == "before_request":
            app.before_request(decompress)
        app.add_url_rule("/", "view", view if when == "before_request" else above, methods=["POST"])
        body, other = gzip.compress(b"one", mtime=0), gzip.compress(b"other", mtime=0)
        assert send(app, body, "text/plain", "k").data == b"one"
        assert send(app, body, "text/plain", "k").headers["Idempotent-Replayed"] == "true"
        assert problem(send(app, other, "text/plain", "k")) == (422, "key-reused")

    def test_f8_by_a_middleware(self, make_app: MakeApp) -> None:
        """F8: a stream that a middleware has put in place is the body, whatever its length."""
        app = make_app()
        app.post("/")(lambda: request.get_data())
        inner = app.wsgi_app

        def decompress(environ: Any, start_response: Any) -> Any:
            length = int(environ["CONTENT_LENGTH"])
            content = gzip.decompress(environ["wsgi.input"].read(length))
            environ.update({"wsgi.input": io.BytesIO(content), "wsgi.input_terminated": True})
            return inner(environ, start_response)

        app.wsgi_app = decompress  # type: ignore[method-assign]
        one, other = b"x" * 1000, b"x" * 999 + b"y"
        assert send(app, gzip.compress(one), "text/plain", "k").data == one
        assert problem(send(app, gzip.compress(other), "text/plain", "k")) == (422, "key-reused")


class TestNoFolder:
    @pytest.mark.parametrize("kind", ["application/octet-stream", URLENCODED])
    def test_w7_large_bodies_stay_in_memory(
        self, way: WayIn, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """W7: large bodies are served where no temporary folder can be written."""

        def refuse(**_: Any) -> None:
            raise FileNotFoundError("No usable temporary directory found")

        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
        app = way.app()
        app.post("/")(way(lambda: request.get_data()))
        assert send(app, LARGE, kind, "k").data == LARGE
        assert send(app, LARGE, kind, "k").headers["Idempotent-Replayed"] == "true"
        assert problem(send(app, LARGE + b"!", kind, "k")) == (422, "key-reused")
        assert send(app, LARGE, kind).data == LARGE


class TestNested:
    """Decorated functions that are called by views that are not."""

    def test_f8_form_was_read(self, make_app: MakeApp) -> None:
        """F8: bytes that the view has read before it calls the function are compared too."""
        app = make_app(wide=False)

        @idempotent
        def place() -> dict[str, Any]:
            return {"data": request.form}

        app.add_url_rule("/", "view", lambda: request.form and place(), methods=["POST"])
        for form, status in ((b"a=1", 200), (b"a=2", 422), (b"a=1", 200)):
            assert send(app, form, URLENCODED, "k").status_code == status

    def test_f8_function_made_in_the_request(self, make_app: MakeApp) -> None:
        """F8: of a function that is made for each request the first body may be lost, and is
        refused then."""
        app = make_app(wide=False)

        def view() -> Any:
            request.stream.read()
            return idempotent(lambda: "done")()

        app.add_url_rule("/", "view", view, methods=["POST"])
        app.test_client().post("/")
        answers = [send(app, b"a=1", "text/plain", "k").status_code for _ in range(2)]
        assert answers in ([500, 200], [200, 200])
        assert send(app, b"a=2", "text/plain", "k").status_code == 422


class TestFieldOff:
    FORM = b"__idempotent_key=k&a=1"

    def test_w7_for_the_application(self, way: WayIn) -> None:
        """W7: without a field neither form nor query is looked at, and both count as payload."""
        app = way.app(config={"IDEMPOTENT_FIELD": None})
        app.post("/")(way(lambda: request.form))
        query = {"QUERY_STRING": "__idempotent_key=q"}
        for _ in range(2):
            answer = send(app, self.FORM, URLENCODED, **query)
            assert "Idempotent-Replayed" not in answer.headers
        assert send(app, self.FORM, URLENCODED, "h").status_code == 200
        assert send(app, self.FORM, URLENCODED, "h").headers["Idempotent-Replayed"] == "true"
        other = self.FORM.replace(b"k&", b"l&")
        assert problem(send(app, other, URLENCODED, "h")) == (422, "key-reused")
        assert problem(send(app, self.FORM, URLENCODED, "h", **query)) == (422, "key-reused")

    def test_w7_for_a_view(self, make_app: MakeApp) -> None:
        """W7: a view may have its own field, or none."""
        app = make_app(wide=False)
        for name, field in (("none", None), ("own", "token"), ("default", KEY)):
            view = idempotent(field=field)(lambda: "done")
            app.add_url_rule(f"/{name}", name, view, methods=["POST"])
        replayed = {}
        for path in ("none", "own", "default"):
            for _ in range(2):
                answer = post(app, None, f"/{path}", data={"token": "t", KEY: "k"})
            replayed[path] = "Idempotent-Replayed" in answer.headers
        assert replayed == {"none": False, "own": True, "default": True}

    def test_w7_incomplete_form(self, way: WayIn) -> None:
        """W7: then half a form is left to the view."""
        app = way.app(config={"IDEMPOTENT_FIELD": None})

        @app.post("/")
        @way
        def view() -> str:
            with pytest.raises(ClientDisconnected):
                request.get_data()
            return "noticed"

        assert send(app, b"a=1", URLENCODED, CONTENT_LENGTH="8").text == "noticed"

    def test_w7_forms_say_so(self, make_app: MakeApp) -> None:
        """W7: a hidden field whose key would not count is a clear error."""
        app = make_app(config={"IDEMPOTENT_FIELD": None})
        for source in ("{{ idempotent_input() }}", "{{ idempotent_hidden_input() }}"):
            with app.test_request_context(), pytest.raises(SettingsError, match="IDEMPOTENT_FIELD"):
                app.jinja_env.from_string(source).render()
