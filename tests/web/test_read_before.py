"""F8: a body that was read before the key is checked is compared whole, and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import pytest
from flask import Flask, Request, jsonify, request
from werkzeug.test import TestResponse

from flask_idempotent import Idempotent, idempotent
from tests.conftest import MakeApp
from tests.support.clients import post, problem
from tests.support.request_bodies import MULTIPART, URLENCODED, chunked, ending, with_length

Reader = Callable[[Request], object]
Framing = Callable[[bytes], dict[str, Any]]
Body = Callable[[bytes], bytes]

FILE = (
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\nContent-Type: a/b\r\n\r\n'
    b"eight bytes, and then %b\r\n--b--\r\n"
)
#: Bodies by type, made for an amount.
BODIES: dict[str, Body] = {
    "application/json": lambda amount: b'{"pay": %b}' % amount,
    URLENCODED: lambda amount: b"pay=" + amount,
    MULTIPART: lambda amount: FILE % amount,
}
FRAMINGS: list[Framing] = [with_length, ending, chunked]


def whole_input(request: Request) -> None:
    # Without its length, only a stream that ends itself can be read to the end.
    ends = "wsgi.input_terminated" in request.environ
    request.environ["wsgi.input"].read(-1 if ends else request.content_length)


def read_files(size: int) -> Reader:
    return lambda request: [file.read(size) for file in request.files.values()]


READERS: dict[str, Reader] = {
    "data": lambda request: request.data,
    "uncached": lambda request: request.get_data(cache=False),
    "stream": lambda request: request.stream.read(),
    "line": lambda request: request.stream.readline(),
    "peek": lambda request: request.stream.read(4),
    "touch": lambda request: request.stream,
    "input": whole_input,
    "json": lambda request: request.get_json(silent=True),
    "form": lambda request: request.form,
    "files": read_files(-1),
    "file-peek": read_files(8),
    "values-uncached": lambda request: (request.values, request.get_data(cache=False)),
}


def view_form_first() -> Any:
    files = [file.read().hex() for file in request.files.values()]
    return jsonify(request.form, files, request.get_data().hex())


def view_stream() -> Any:
    return jsonify(request.stream.read().hex())


VIEWS = {"/form": view_form_first, "/stream": view_stream}


def add_views(app: Flask, make: Callable[[Callable[[], Any]], Callable[..., Any]]) -> Flask:
    for path, view in VIEWS.items():
        # A function of its own for each: one may not be decorated here and bare there.
        app.add_url_rule(path, path, make(partial(view)), methods=["POST"])
    return app


def reading(reader: Reader, view: Callable[[], Any]) -> Callable[[], Any]:
    """Put a decorator above a view, that reads the body before it calls the view."""

    def above() -> Any:
        reader(request)
        return view()

    return above


def plain(view: Callable[[], Any]) -> Callable[[], Any]:
    return view


def find_key(reader: Reader) -> Callable[[Request], str | None]:
    def find(request: Request) -> str | None:
        reader(request)
        return request.headers.get("Idempotency-Key")

    return find


#: Otherwise another body would count as a correction where the view answers 400.
CONFIG = {"IDEMPOTENT_CORRECTABLE": False}


def before_request(make_app: MakeApp, reader: Reader) -> Iterator[tuple[Flask, Flask]]:
    for wide in (True, False):
        with_us, without = make_app(wide=wide, config=CONFIG), make_app(wide=False)
        for app in (with_us, without):
            app.before_request(reading(reader, lambda: None))
        yield add_views(with_us, plain if wide else idempotent), add_views(without, plain)


def decorator_above(make_app: MakeApp, reader: Reader) -> Iterator[tuple[Flask, Flask]]:
    with_us = make_app(wide=False, config=CONFIG)
    add_views(with_us, lambda view: reading(reader, idempotent(view)))
    yield with_us, add_views(make_app(wide=False), lambda view: reading(reader, view))


def key_function(make_app: MakeApp, reader: Reader) -> Iterator[tuple[Flask, Flask]]:
    without = add_views(make_app(wide=False), plain)
    yield add_views(make_app(key=find_key(reader)), plain), without
    yield add_views(make_app(wide=False), idempotent(key=find_key(reader))), without


def key_finder(make_app: MakeApp, reader: Reader) -> Iterator[tuple[Flask, Flask]]:
    app = make_app(wide=False, config={"IDEMPOTENT_HEADERS": ["X-Other"]})
    Idempotent(app).key_finder(find_key(reader))
    yield add_views(app, plain), add_views(make_app(wide=False), plain)


def scope_function(make_app: MakeApp, reader: Reader) -> Iterator[tuple[Flask, Flask]]:
    def scope(request: Request) -> str:
        reader(request)
        return "one"

    yield add_views(make_app(scope=scope), plain), add_views(make_app(wide=False), plain)


#: Which function reads. Without us, a key, finder or scope function is not called.
WHO = [before_request, decorator_above, key_function, key_finder, scope_function]


def combinations(turn: int) -> Iterator[tuple[str, Framing, tuple[str, Body]]]:
    """Each view and framing with a type of body; in three turns with all three types."""
    types = list(BODIES.items())
    for number, (path, framing) in enumerate([*product(["/form"], FRAMINGS), ("/stream", chunked)]):
        yield path, framing, types[(number + turn) % len(types)]


class TestReader:
    @pytest.mark.parametrize("reader", READERS)
    @pytest.mark.parametrize("who", WHO, ids=lambda who: who.__name__)
    def test_f8_compared_and_put_back(
        self, make_app: MakeApp, who: Callable[..., Iterator[tuple[Flask, Flask]]], reader: str
    ) -> None:
        """F8: all bytes are in the fingerprint, and the view reads what it would without us."""
        turn = WHO.index(who) + list(READERS).index(reader)
        for with_us, without in who(make_app, READERS[reader]):
            turn += 1
            for number, (path, framing, (kind, body)) in enumerate(combinations(turn)):
                send = partial(self.send, path, framing, kind, body, f"key-{number}")
                expected, first = send(without, b"1"), send(with_us, b"1")
                what = (path, framing.__name__, kind)
                assert first.status_code == expected.status_code, what
                assert first.data == expected.data, what
                assert problem(send(with_us, b"1000000")) == (422, "key-reused"), what
                replay = send(with_us, b"1")
                assert replay.headers["Idempotent-Replayed"] == "true", what
                assert replay.data == first.data

    def send(
        self,
        path: str,
        framing: Framing,
        kind: str,
        body: Body,
        key: str,
        app: Flask,
        amount: bytes,
    ) -> TestResponse:
        # The test client would write a boundary of its own.
        environ = framing(body(amount)) | {"CONTENT_TYPE": kind}
        return post(app, key, path, environ_overrides=environ)
