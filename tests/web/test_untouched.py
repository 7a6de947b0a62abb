"""Applications that handle bodies in their own way do not notice the library."""

from __future__ import annotations

import gzip
import io
import logging
import tempfile
from collections.abc import Callable
from typing import IO, Any

import pytest
from flask import Flask, Request, request
from werkzeug.exceptions import ClientDisconnected

from flask_idempotent import SettingsError, idempotent
from tests.conftest import MakeApp
from tests.support.clients import WayIn, post, problem
from tests.support.request_bodies import MULTIPART, URLENCODED, chunked, ending, with_length

KEY = "__idempotent_key"
LARGE = b"0123456789" * 100_000


def form_of(*names: str, content: bytes = b"content") -> bytes:
    """A multipart form with a file of each name, and the key behind them."""
    part = b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
    files = (part % (name.encode(), b'; filename="f"', content) for name in names)
    return b"".join(files) + part % (KEY.encode(), b"", b"k") + b"--b--\r\n"


def send(app: Flask, body: bytes, kind: str, key: str | None = None, **environ: Any) -> Any:
    environ = {"CONTENT_TYPE": kind, **with_length(body), **environ}
    return post(app, key, environ_overrides=environ)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage() for record in caplog.records
        if record.levelno >= logging.WARNING and "memory://" not in record.getMessage()
    ]  # fmt: skip


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


def take(size: int | None, put_back: bool) -> Callable[[Flask], None]:
    """Make a middleware that reads from the body."""

    def install(app: Flask) -> None:
        inner = app.wsgi_app

        def middleware(environ: Any, start_response: Any) -> Any:
            stream = environ["wsgi.input"]
            taken = stream.read(int(environ["CONTENT_LENGTH"]) if size is None else size)
            if put_back:
                environ["wsgi.input"] = io.BytesIO(taken + stream.read())
            return inner(environ, start_response)

        app.wsgi_app = middleware  # type: ignore[method-assign]

    return install


class TestTaken:
    @pytest.mark.parametrize("size", [None, 4])
    @pytest.mark.parametrize("kind", ["application/json", URLENCODED])
    def test_f8_by_a_middleware(
        self, way: WayIn, size: int | None, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """F8: where bytes were read and not put back nothing is claimed, and the log says why."""
        app, runs = way.app(), []

        @app.post("/")
        @way
        def view() -> str:
            runs.append(1)
            return "done"

        take(size, put_back=False)(app)
        environ = {"wsgi.input": io.BytesIO(b"pay=1000")}
        refused = send(app, b"pay=1000", kind, "k", **environ)
        assert problem(refused) == (500, "body-unavailable")
        assert refused.json["idempotency_key"] == "k"
        assert runs == []
        [error] = warnings(caplog)
        assert "environ['wsgi.input'] = io.BytesIO(data)" in error

    def test_f8_put_back(self, way: WayIn) -> None:
        """F8: where they were put back the request is served as usual."""
        app = way.app()
        app.post("/")(way(lambda: request.get_data()))
        take(4, put_back=True)(app)
        assert send(app, b"pay=1000", "text/plain", "k").data == b"pay=1000"
        assert problem(send(app, b"pay=1001", "text/plain", "k")) == (422, "key-reused")

    def test_f8_without_a_key(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """F8, W7: a request without a key is served; a warning says that one may be missing."""
        app = way.app()
        app.post("/")(way(lambda: "done"))
        take(None, put_back=False)(app)
        for kind, told in (("application/json", 0), (URLENCODED, 1)):
            environ = {"wsgi.input": io.BytesIO(b"pay=1000")}
            assert send(app, b"pay=1000", kind, **environ).text == "done"
            assert len(warnings(caplog)) == told

    def test_f8_handler_of_the_applications(self, way: WayIn) -> None:
        """E3: an application's handler for 500 answers in its own way."""
        app = way.app()
        app.post("/")(way(lambda: "done"))
        app.register_error_handler(500, lambda error: (f"own: {error.code}", 500))
        take(None, put_back=False)(app)
        environ = {"wsgi.input": io.BytesIO(b"pay=1000")}
        assert send(app, b"pay=1000", "text/plain", "k", **environ).text == "own: 500"


LIMITS_OF_REQUESTS = pytest.mark.skipif(
    Request.max_content_length.fset is None, reason="Flask 3.0 has no limits for a single request"
)


class TestLimits:
    """Limits of the application, and views that raise them."""

    FORM = b"a=" + b"x" * 50 + b"&b=1"

    @LIMITS_OF_REQUESTS
    @pytest.mark.parametrize("framing", [with_length, ending, chunked])
    def test_w7_raised_by_the_view(
        self,
        way: WayIn,
        framing: Callable[[bytes], dict[str, Any]],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """W7: a view that raises its limit for itself reads all; that the key was not looked for
        to the end is told."""
        app = way.app(config={"MAX_CONTENT_LENGTH": 20})

        @app.post("/")
        @way
        def view() -> Any:
            request.max_content_length = 1000
            return request.form

        answer = post(
            app, None, environ_overrides={"CONTENT_TYPE": URLENCODED, **framing(self.FORM)}
        )
        assert answer.json == {"a": "x" * 50, "b": "1"}
        [warning] = warnings(caplog)
        assert "longer than 20 bytes" in warning

    @pytest.mark.parametrize("framing", [with_length, ending, chunked])
    def test_w7_refused_by_the_view(
        self,
        way: WayIn,
        framing: Callable[[bytes], dict[str, Any]],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """W7: nothing is logged where the view refuses such a form, as it does without us."""
        app = way.app(config={"MAX_CONTENT_LENGTH": 20})
        app.post("/")(way(lambda: b"".join(iter(lambda: request.stream.read(7), b""))))
        answer = post(
            app, None, environ_overrides={"CONTENT_TYPE": URLENCODED, **framing(self.FORM)}
        )
        assert answer.status_code == 413
        assert warnings(caplog) == []

    @LIMITS_OF_REQUESTS
    def test_w7_raised_before(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """W7: a limit raised in ``before_request`` is the search's limit too, so the key counts."""
        app = way.app(config={"MAX_CONTENT_LENGTH": 20})

        @app.before_request
        def raise_limit() -> None:
            request.max_content_length = 1000

        app.post("/")(way(lambda: request.form))
        form = self.FORM + b"&__idempotent_key=k"
        assert send(app, form, URLENCODED).json["b"] == "1"
        assert send(app, form, URLENCODED).headers["Idempotent-Replayed"] == "true"
        assert warnings(caplog) == []

    def test_w4_key_before_the_limit(self, way: WayIn) -> None:
        """W4: a form with a key that is too large is refused, and nothing is claimed."""
        app = way.app(config={"MAX_CONTENT_LENGTH": 20})
        app.post("/")(way(lambda: "done"))
        assert send(app, b"__idempotent_key=k&" + self.FORM, URLENCODED).status_code == 413

    @pytest.mark.parametrize("limit", ["MAX_FORM_PARTS", "MAX_FORM_MEMORY_SIZE"])
    @pytest.mark.parametrize("key", ["k", None])
    def test_w7_bytes_have_no_limits_of_forms(
        self, way: WayIn, limit: str, key: str | None
    ) -> None:
        """W7: a view that reads a form's bytes itself meets no limit for forms."""
        app = way.app(config={limit: 1})
        app.post("/")(way(lambda: request.get_data()))
        body = form_of("one", "two", "three").replace(KEY.encode(), b"other")
        assert send(app, body, MULTIPART, key).data == body

    @LIMITS_OF_REQUESTS
    def test_w7_parts(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """W7: a key after the last part that is searched is not found, and a warning says so."""
        app = way.app(config={"MAX_FORM_PARTS": 2})
        app.post("/")(way(lambda: "done"))
        for _ in range(2):
            assert "Idempotent-Replayed" not in send(app, form_of("1", "2"), MULTIPART).headers
        assert ["more than 2 parts" in warning for warning in warnings(caplog)] == [True, True]
        assert send(app, form_of("1"), MULTIPART).text == "done"
        assert send(app, form_of("1"), MULTIPART).headers["Idempotent-Replayed"] == "true"

    def test_f8_key_function_reads_half(self, way: WayIn) -> None:
        """F8: Werkzeug cuts a chunked body at the limit without a word; it is refused all the
        same, so that no two payloads share a fingerprint."""

        def find(request: Request) -> str | None:
            request.get_data()
            return request.headers.get("Idempotency-Key")

        app = way.app(config={"MAX_CONTENT_LENGTH": 10}, key=find)
        app.post("/")(way(lambda: request.get_data()))
        for body, status in ((b"x" * 11, 413), (b"x" * 10, 200)):
            environ = {"CONTENT_TYPE": "text/plain", **chunked(body)}
            assert post(app, "k", environ_overrides=environ).status_code == status

    def test_w4_key_function_meets_the_end(self, way: WayIn) -> None:
        """W4: half a body is the same problem where the application's function reads it."""

        def find(request: Request) -> str | None:
            request.get_data()
            return request.headers.get("Idempotency-Key")

        app = way.app(key=find)
        app.post("/")(way(lambda: "done"))
        answer = send(app, b"half", "text/plain", "k", CONTENT_LENGTH="8")
        assert problem(answer) == (400, "body-incomplete")
        assert answer.json["idempotency_key"] == "k"

    def test_f3_values_and_data(self, make_app: MakeApp) -> None:
        """F3: a form that was parsed and then read again, without effect, is complete."""
        app = make_app()

        @app.before_request
        def read() -> None:
            assert request.values
            assert request.get_data(cache=False) == b""

        app.post("/")(lambda: request.form)
        assert send(app, b"a=1", URLENCODED, "k").json == {"a": "1"}
        assert problem(send(app, b"a=2", URLENCODED, "k")) == (422, "key-reused")


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
