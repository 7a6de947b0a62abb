"""The applications that the servers of these tests run.

What a view does is counted, and its gates are opened, in database 1 of the test's Redis server,
so that every process of a server agrees. Each test has a case of its own, the end of its paths.
"""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, redirect, request, send_file
from flask.typing import ResponseReturnValue
from redis import Redis
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import run_simple

from flask_idempotent import Idempotent, idempotent, signals
from tests.wire.readers import reading_apps, taking_apps

LIMIT = 100_000
GATE_SECONDS = 15
BINARY = bytes(range(256)) * 300

redis: Redis = Redis(port=int(os.environ["WIRE_REDIS_PORT"]), db=1, socket_timeout=GATE_SECONDS + 5)
views = Blueprint("views", __name__)
ANY = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def count(case: str) -> int:
    """Count a run of the view."""
    return int(redis.incr(f"runs:{case}"))


def gate(case: str) -> None:
    """Let the test know that a request is here, and wait until the test lets it go on."""
    redis.lpush(f"reached:{case}", 1)
    assert redis.blpop([f"gate:{case}"], GATE_SECONDS), "nobody opened the gate"


@views.route("/echo/<case>", methods=ANY)
def echo(case: str) -> ResponseReturnValue:
    return jsonify(run=count(case), body=base64.b64encode(request.get_data()).decode())


@views.post("/slash/<case>/")
def slash(case: str) -> ResponseReturnValue:
    return jsonify(run=count(case))


@views.post("/required/<case>")
@idempotent(required=True)
def required(case: str) -> ResponseReturnValue:
    return jsonify(run=count(case))


@views.route("/alive", methods=["GET", "POST"])
@idempotent.exempt
def alive() -> ResponseReturnValue:
    return "alive"


@views.post("/form/<case>")
def form(case: str) -> ResponseReturnValue:
    return jsonify(run=count(case), form=list(request.form))


@views.post("/echo-post/<case>")
def echo_post(case: str) -> ResponseReturnValue:
    return echo(case)


@views.post("/exempt/<case>")
@idempotent.exempt
def exempt(case: str) -> ResponseReturnValue:
    return jsonify(run=count(case))


@views.post("/slow/<case>")
def slow(case: str) -> ResponseReturnValue:
    run = count(case)
    gate(case)
    return jsonify(run=run)


@views.post("/busy/<case>")
@idempotent(timeout=0, lease=20)
def busy(case: str) -> ResponseReturnValue:
    return slow(case)


@views.post("/stream/<case>")
def stream(case: str) -> ResponseReturnValue:
    run = count(case)

    def pieces() -> Iterator[bytes]:
        yield b"run %d, " % run
        gate(case)
        yield b"end"

    response = Response(pieces())
    response.call_on_close(lambda: redis.lpush(f"closed:{case}", 1))
    return response


@views.post("/endless/<case>")
@idempotent(max_body=2**30)
def endless(case: str) -> ResponseReturnValue:
    count(case)

    def pieces() -> Iterator[bytes]:
        yield b"begin"
        gate(case)
        while True:
            yield b"x" * 16_000

    return Response(pieces())


# What a view may see of a request.

LOOKS: dict[str, Callable[[], Any]] = {
    "data": lambda: base64_of(request.data),
    "get_data": lambda: base64_of(request.get_data()),
    "stream": lambda: base64_of(request.stream.read()),
    "stream-lines": lambda: [base64_of(line) for line in request.stream],
    "stream-pieces": lambda: base64_of(b"".join(iter(lambda: request.stream.read(1000), b""))),
    "input": lambda: base64_of(request.environ["wsgi.input"].read(request.content_length or 0)),
    "form": lambda: list(request.form.items(multi=True)),
    "values": lambda: list(request.values.items(multi=True)),
    "files": lambda: [
        [name, file.filename, list(file.headers), base64_of(file.read())]
        for name, file in request.files.items(multi=True)
    ],
    "json": lambda: request.get_json(),
    "form-then-data": lambda: [len(request.form), base64_of(request.get_data())],
    "data-then-form": lambda: [base64_of(request.get_data()), list(request.form.items(multi=True))],
}


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def look(how: str) -> ResponseReturnValue:
    return jsonify(seen=LOOKS[how](), length=request.content_length, type=request.content_type)


views.add_url_rule("/look/<how>", "look", look, methods=ANY)
views.add_url_rule(
    "/exempt/look/<how>", "look_exempt", idempotent.exempt(lambda how: look(how)), methods=ANY
)


# What a view may answer.

ANSWERS: dict[str, Callable[[], Any]] = {
    "text": lambda: "text",
    "json": lambda: jsonify(a=[1, "ü"]),
    "empty": lambda: "",
    "binary": lambda: Response(BINARY, mimetype="image/png"),
    "created": lambda: ("made", 201, {"Location": "/things/1", "ETag": '"v1"'}),
    "no-content": lambda: ("", 204),
    "no-content-with-body": lambda: ("never sent", 204, {"Content-Length": "10"}),
    "see-other": lambda: redirect("/things/1", 303),
    "reset-content": lambda: ("", 205),
    "error": lambda: ("no such thing", 404),
    "reason": lambda: Response("odd", status="299 Quite Special"),
    "unsendable": lambda: Response("named", headers={"X Name": "no token"}),
    "latin-1": lambda: Response("named", headers={"X-Name": "Jos\xe9"}),
    "links": lambda: Response("linked", headers=[("Link", "</a>; rel=a"), ("Link", "</b>; rel=b")]),
    "cookies": lambda: Response("baked", headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]),
    "dated": lambda: Response("old", headers={"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}),
    "file": lambda: send_file(io.BytesIO(BINARY), "image/png", etag=False),
    "file-on-disk": lambda: send_file(__file__, "text/plain"),
    "stream": lambda: Response(iter([b"one,", b"", b"two"])),
    "stream-with-length": lambda: Response(
        iter([b"one,", b"two"]), headers={"Content-Length": "7"}
    ),
    "stream-of-nothing": lambda: Response(iter([])),
    "not-modified": lambda: ("", 304, {"ETag": '"v1"'}),
    "partial": lambda: ("par", 206, {"Content-Range": "bytes 0-2/7"}),
}


@views.route("/answer/<name>/<case>", methods=ANY)
def answer(name: str, case: str) -> ResponseReturnValue:
    response: ResponseReturnValue = ANSWERS[name]()
    count(case)
    return response


# Functions that look at the body before the library does, as CSRF protection and signatures do.


def read_form() -> None:
    request.form.get("csrf_token")


def read_data() -> None:
    request.get_data()


def touch_stream() -> None:
    request.stream  # noqa: B018


def allow_origins(response: Response) -> Response:
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response


def note_end(_: BaseException | None) -> None:
    if request.view_args and "case" in request.view_args:
        redis.lpush(f"done:{request.view_args['case']}", 1)


def note_completed(_: object, key: str, kept: bool, **__: object) -> None:
    redis.lpush(f"completed:{key}", "kept" if kept else "not kept")


signals.completed.connect(note_completed)


def bare_app(before: Callable[[], None] | None, **config: Any) -> Flask:
    app = Flask("wire")
    app.config.update(config, REDIS_URL=f"redis://127.0.0.1:{os.environ['WIRE_REDIS_PORT']}/0")
    if before is not None:
        app.before_request(before)
    app.after_request(allow_origins)
    app.teardown_request(note_end)
    return app


def wide_app(before: Callable[[], None] | None = None, **config: Any) -> Flask:
    app = bare_app(before, **config)
    app.register_blueprint(views)
    Idempotent(app)
    return app


def decorated_app(before: Callable[[], None]) -> Flask:
    app = bare_app(before)
    # The other applications have ``echo`` itself, without the decorator.
    app.add_url_rule("/echo/<case>", "echo", idempotent(lambda case: echo(case)), methods=ANY)
    app.add_url_rule("/exempt/<case>", "exempt", exempt, methods=["POST"])
    return app


application = DispatcherMiddleware(
    wide_app(),
    {
        "/limited": wide_app(MAX_CONTENT_LENGTH=LIMIT),
        "/after-form": wide_app(read_form),
        "/after-data": wide_app(read_data),
        "/after-touch": wide_app(touch_stream),
        "/after-form/limited": wide_app(read_form, MAX_CONTENT_LENGTH=LIMIT),
        "/after-form/decorated": decorated_app(read_form),
        "/after-data/decorated": decorated_app(read_data),
        **reading_apps(bare_app),
        **taking_apps(bare_app),
    },
)

if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True)
