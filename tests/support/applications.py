"""Applications that tests run behind real web servers; ``REDIS_URL`` says where records live."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from typing import IO, Any

import redis
from flask import Flask, Response, jsonify, redirect, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_idempotent import Idempotent, idempotent
from tests.support.memory import peak

CHUNK = b"streaming!" * 5_000
CHUNKS = 50_000_000 // len(CHUNK)

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1")


def _large() -> Flask:
    """Uploads, each with an exempt twin, and a large stream that waits for the test."""
    app = Flask("large")
    app.config["REDIS_URL"] = REDIS_URL
    Idempotent(app)
    client = redis.Redis.from_url(REDIS_URL)

    def add(rule: str, view: Callable[[], Any]) -> None:
        app.add_url_rule(rule, rule, view, methods=["POST"])

        @idempotent.exempt
        def twin() -> Any:
            return view()

        app.add_url_rule(f"/exempt{rule}", f"/exempt{rule}", twin, methods=["POST"])

    def form() -> dict[str, object]:
        file = request.files["file"]
        return {"note": request.form["note"], "name": file.filename, "digest": digest(file.stream)}

    def stream() -> Response:
        client.incr("runs")

        def chunks() -> Iterator[bytes]:
            yield CHUNK
            assert client.blpop(["go on"], 20) is not None, "the test did not say so"
            for _ in range(CHUNKS - 1):
                yield CHUNK

        return Response(chunks(), mimetype="application/octet-stream")

    add("/form", form)
    add("/content", lambda: {"digest": digest(request.stream)})
    add("/bytes", lambda: {"size": len(request.get_data())})
    add("/stream", stream)
    app.add_url_rule("/peak", "peak", peak)
    return app


def digest(stream: IO[bytes]) -> str:
    digest = hashlib.blake2b()
    while piece := stream.read(64 * 1024):
        digest.update(piece)
    return digest.hexdigest()


large = _large()


# A view for each kind of answer, and an application whose store is away.

answers = Flask("answers")
answers.config["REDIS_URL"] = REDIS_URL
notes: redis.Redis = redis.Redis.from_url(REDIS_URL)

adrift = Flask("adrift")
# Nothing listens on this port.
adrift.config["REDIS_URL"] = "redis://127.0.0.1:1"
adrift.add_url_rule("/", "view", idempotent(lambda: ""), methods=["POST"])
mounted = DispatcherMiddleware(answers.wsgi_app, {"/adrift": adrift})
answers.wsgi_app = mounted  # type: ignore[method-assign]


@answers.post("/created")
@idempotent
def created() -> tuple[Response, int, list[tuple[str, str]]]:
    links = [("Link", '</orders/7>; rel="self"'), ("Link", '</orders>; rel="collection"')]
    return jsonify(order=7), 201, [("Location", "/orders/7"), ("ETag", '"7"'), *links]


@answers.post("/page")
@idempotent
def page() -> str:
    return "<!doctype html><html lang=en><title>Done</title><p>Grüße</p></html>"


@answers.post("/streamed")
@idempotent
def streamed() -> Response:
    return Response((b"%d" % number for number in range(9)), mimetype="text/plain")


@answers.post("/empty")
@idempotent
def empty() -> tuple[str, int]:
    return "", 204


@answers.post("/elsewhere")
@idempotent
def elsewhere() -> Any:
    return redirect("/orders/7", 303)


@answers.post("/refused")
@idempotent
def refused() -> tuple[Response, int]:
    return jsonify(error="no such card"), 402


@answers.post("/required")
@idempotent(required=True)
def required() -> str:
    return ""


@answers.post("/not_kept")
@idempotent(max_body=0)
def not_kept() -> str:
    return "too large"


@answers.post("/waiting")
@idempotent(timeout=0)
def waiting() -> str:
    notes.rpush("reached", 1)
    assert notes.blpop(["go on"], 20) is not None, "the test did not say so"
    return ""


@answers.post("/held")
@idempotent(on_crash="hold")
def held() -> str:
    return ""
