"""Calls: what a client sends, noted once and sent again."""

from __future__ import annotations

import io
from typing import Any

from flask import Flask, request
from flask.testing import FlaskClient

from flask_idempotent.testing.requests import RecordedRequest, record_request
from tests.testing.apps import bare


def echo() -> Flask:
    app = bare()

    @app.route("/", methods=["POST", "DELETE"])
    def view() -> dict[str, Any]:
        return {
            "data": request.get_data(cache=True, parse_form_data=False).decode(),
            "form": dict(request.form),
            "files": {name: file.read().decode() for name, file in request.files.items()},
            "headers": dict(request.headers),
            "cookies": dict(request.cookies),
            "query": dict(request.args),
        }

    return app


def call(client: FlaskClient, **options: Any) -> RecordedRequest:
    return record_request(client, options.pop("method", "POST"), "/", options)


class TestNote:
    def test_sends_nothing(self) -> None:
        """The application does not see the request that is noted."""
        app = echo()
        app.before_request(lambda: 1 / 0)
        call(app.test_client())

    def test_the_application_is_as_before(self) -> None:
        """A middleware around the application is there for what is sent, and afterwards."""
        app = echo()

        def middleware(environ: Any, start: Any, inner: Any = app.wsgi_app) -> Any:
            return inner({**environ, "HTTP_X_SEEN": "yes"}, start)

        app.wsgi_app = middleware  # type: ignore[method-assign]
        assert call(app.test_client()).send().json["headers"]["X-Seen"] == "yes"
        assert app.wsgi_app is middleware

    def test_what_a_client_adds(self) -> None:
        """A client's cookies, its base environment and its own ``open`` are in the request."""

        class Client(FlaskClient):
            def open(self, *args: Any, **kwargs: Any) -> Any:
                kwargs["headers"] = {"Authorization": "Bearer one"}
                return super().open(*args, **kwargs)

        app = echo()
        app.test_client_class = Client
        client = app.test_client()
        client.set_cookie("who", "ada")
        client.environ_base["HTTP_X_BASE"] = "here"
        seen = call(client, query_string={"page": "2"}).send().json
        assert seen["cookies"] == {"who": "ada"}
        assert seen["headers"]["X-Base"] == "here"
        assert seen["headers"]["Authorization"] == "Bearer one"
        assert seen["query"] == {"page": "2"}

    def test_in_a_with_block(self) -> None:
        """A client that keeps its contexts is left alone by what is sent."""
        client = echo().test_client()
        with client:
            client.post("/?mine=1")
            call(client, json={}).send()
            client.post("/?mine=2")
            assert request.args["mine"] == "2"


class TestSend:
    def test_uploads_again(self) -> None:
        """Files that the client read once are sent each time."""
        data = {"name": "mug", "file": (io.BytesIO(b"picture"), "mug.png")}
        recorded = call(echo().test_client(), data=data)
        for _ in "12":
            seen = recorded.send().json
            assert (seen["form"], seen["files"]) == ({"name": "mug"}, {"file": "picture"})


class TestWithHeader:
    def test_replaces(self) -> None:
        """A header of the request gets another value."""
        recorded = call(echo().test_client(), headers={"Idempotency-Key": "old"})
        seen = recorded.with_header("Idempotency-Key", "new").send().json
        assert seen["headers"]["Idempotency-Key"] == "new"


class TestWithOtherBody:
    def test_json(self) -> None:
        """JSON gets a space at its end and means the same."""
        seen = call(echo().test_client(), json={"a": 1}).with_other_body().send().json
        assert seen["data"] == '{"a": 1} '

    def test_forms(self) -> None:
        """A form gets a field, urlencoded or multipart."""
        for data in {"a": "1"}, {"a": "1", "file": (io.BytesIO(b"x"), "x")}:
            seen = call(echo().test_client(), data=data).with_other_body().send().json
            assert seen["form"] == {"a": "1", "changed": "1"}

    def test_no_body(self) -> None:
        """A request without a body gets one."""
        seen = call(echo().test_client(), method="DELETE").with_other_body().send().json
        assert seen["data"] == " "
