"""Requests of a client, recorded once and sent as often as needed, from any thread.

A test client cannot be shared by threads, its cookies change with each response, and files that
it uploads can be read only once. A retry repeats the bytes of the first request.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.http import parse_options_header
from werkzeug.test import TestResponse, run_wsgi_app
from werkzeug.wrappers import Request

from flask_idempotent._http_semantics import environ_name

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask.testing import FlaskClient


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request as it goes over the wire.

    :param client: the client that made it.
    :param environ: its WSGI environment.
    :param body: its bytes.
    """

    client: FlaskClient
    environ: WSGIEnvironment
    body: bytes

    def with_header(self, name: str, value: str) -> RecordedRequest:
        """The same request with this header added or replaced."""
        return replace(self, environ={**self.environ, environ_name(name): value})

    def with_other_body(self) -> RecordedRequest:
        """The same request with a slightly different body, which a view should still accept."""
        body = _altered(self.body, self.environ.get("CONTENT_TYPE", ""))
        return replace(self, environ={**self.environ, "CONTENT_LENGTH": str(len(body))}, body=body)

    def send(self) -> TestResponse:
        """Send it and read the whole response."""
        environ = {**self.environ, "wsgi.input": io.BytesIO(self.body)}
        app = self.client.application
        parts = run_wsgi_app(app, environ, buffered=True)
        response = self.client.response_wrapper(*parts, request=Request(environ))
        response.json_module = app.json  # type: ignore[assignment]
        return response


def _altered(body: bytes, content_type: str) -> bytes:
    mimetype, options = parse_options_header(content_type)
    if mimetype == "application/x-www-form-urlencoded":
        return body + b"&changed=1"
    if mimetype == "multipart/form-data" and "boundary" in options:
        part = '--{}\r\nContent-Disposition: form-data; name="changed"\r\n\r\n1\r\n'
        return part.format(options["boundary"]).encode() + body.removeprefix(b"\r\n")
    # JSON may end in a space, as most formats may.
    return body + b" "


def record_request(
    client: FlaskClient, method: str, path: str, request: dict[str, Any]
) -> RecordedRequest:
    """Record the request that a client would send, without sending it.

    :param request: keywords of the client's ``open``.
    """
    recorded: list[RecordedRequest] = []

    def wsgi_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # A client in a with block leaves its contexts there, werkzeug the client's request.
        clean = {k: v for k, v in environ.items() if not k.startswith(("werkzeug.", "flask."))}
        recorded.append(RecordedRequest(client, clean, environ["wsgi.input"].read()))
        start_response("204 NO CONTENT", [])
        return []

    with _instead_of(client.application, wsgi_app):
        client.open(path, method=method, **request).close()
    return recorded[0]


@contextmanager
def _instead_of(app: Flask, wsgi_app: WSGIApplication) -> Iterator[None]:
    # A middleware around the application is an attribute of the instance, not of the class.
    attributes: dict[str, Callable[..., Any]] = app.__dict__
    middleware = attributes.get("wsgi_app")
    attributes["wsgi_app"] = wsgi_app
    try:
        yield
    finally:
        del attributes["wsgi_app"]
        if middleware is not None:
            attributes["wsgi_app"] = middleware
