"""A middleware reads from the body before Flask is called."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, request

from tests.support.clients import WayIn, problem
from tests.support.request_bodies import URLENCODED, send, warnings


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


class TestMissing:
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
        for kind, count in (("application/json", 0), (URLENCODED, 1)):
            environ = {"wsgi.input": io.BytesIO(b"pay=1000")}
            assert send(app, b"pay=1000", kind, **environ).text == "done"
            assert len(warnings(caplog)) == count

    def test_f8_handler_of_the_applications(self, way: WayIn) -> None:
        """E3: an application's handler for 500 answers in its own way."""
        app = way.app()
        app.post("/")(way(lambda: "done"))
        app.register_error_handler(500, lambda error: (f"own: {error.code}", 500))
        take(None, put_back=False)(app)
        environ = {"wsgi.input": io.BytesIO(b"pay=1000")}
        assert send(app, b"pay=1000", "text/plain", "k", **environ).text == "own: 500"
