"""Contestants: the same application, bare and behind each library.

Each library is set up as in the first example of its documentation.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from flask import Flask, request

from tests.support.memory import peak

#: The size of the view's JSON in bytes.
BODY_SIZE = 300

#: The body of every request.
PAYLOAD = json.dumps({"item": "a small good house", "amount": 1200}).encode()
_FILLER = "x" * (BODY_SIZE - len('{"amount":1200,"note":""}\n'))

#: The kinds of requests that are compared.
KINDS = ("no key", "first", "replay")
#: Where an application keeps its ``Hold``, and the engine of its database.
HOLD, DATABASE = "bench", "bench.database"
#: The variable of the environment that says where the database is.
DATABASE_URL = "BENCH_DATABASE_URL"
#: In the WSGI environment: the view fails after its steps.
FAILS = "bench.fails"

#: A status line, headers and the body.
Answer = tuple[str, dict[str, str], bytes]


@dataclass(frozen=True)
class Contestant:
    """An application in this process.

    :param name: what the tables call it.
    :param app: the WSGI application.
    """

    name: str
    app: Flask

    def answer(self, environ: dict[str, Any]) -> Answer:
        """Serve one request as a WSGI server does."""
        started: list[Any] = []
        body: Iterable[bytes] = self.app(
            environ, lambda *status_and_headers: started.append(status_and_headers)
        )
        try:
            content = b"".join(body)
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()
        return started[0][0], dict(started[0][1]), content

    @cached_property
    def beside(self) -> Contestant:
        """Bare Flask in the same process."""
        return Contestant(BARE, make(BARE, "redis://unused"))

    @property
    def database(self) -> Any:
        """SQLAlchemy's engine; None for an application without a database."""
        return self.app.extensions.get(DATABASE)

    def close(self) -> None:
        """Close its connections, and end the threads of its library."""
        state = self.app.extensions.get("idempotent")
        if state is not None:
            state.engine.close()
        if self.database is not None:
            self.database.dispose()


def order() -> tuple[dict[str, Any], int]:
    """The view that every contestant serves."""
    return {"amount": request.get_json()["amount"], "note": _FILLER}, 201


def upload() -> dict[str, int]:
    """A view that reads the bytes of a form."""
    return {"size": len(request.get_data())}


class Hold:
    """A view that runs until ``go_on`` is set, and records when it ended."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.ended: dict[str, float] = {}

    def __call__(self) -> tuple[dict[str, Any], int]:
        key = request.headers["Idempotency-Key"]
        self.begun.release()
        assert self.go_on.wait(60), "go_on was not set"
        answer = order()
        self.ended[key] = time.perf_counter()
        return answer


def _bare(url: str) -> Flask:
    app = Flask("bench")
    app.config["REDIS_URL"] = url
    app.add_url_rule("/orders", "order", order, methods=["POST"])
    app.add_url_rule("/held", "held", lambda: app.extensions[HOLD](), methods=["POST"])
    app.add_url_rule("/upload", "upload", upload, methods=["POST"])
    app.add_url_rule("/peak", "peak", peak)
    return app


# Each function imports its own library: importing one might slow down the requests of the others.


def _app_wide(url: str) -> Flask:
    from flask_idempotent import Idempotent

    app = _bare(url)
    Idempotent(app)
    return app


def _decorated(url: str) -> Flask:
    from flask_idempotent import idempotent

    app = _bare(url)
    app.view_functions["order"] = idempotent(order)
    return app


def _confirmed(url: str) -> Flask:
    from flask_idempotent import Idempotent

    app = _bare(url)
    Idempotent(app, min_replicas=1)
    return app


def _sealed(url: str) -> Flask:
    from flask_idempotent import Idempotent

    app = _bare(url)
    app.config["IDEMPOTENT_SECRETS"] = (SECRET,)
    Idempotent(app)
    return app


def _with_steps(url: str, steps: int, once: bool = False) -> Flask:
    from flask_idempotent import idempotent, step

    app = _bare(url)

    def order_in_steps() -> tuple[dict[str, Any], int]:
        for number in range(steps):
            step(f"step {number}", lambda: {"id": 12, "state": "done"}, once=once)
        if FAILS in request.environ:
            return {}, 503
        return order()

    app.view_functions["order"] = idempotent(order_in_steps)
    return app


def _idemkit(url: str) -> Flask:
    from idemkit import HttpConfig, RedisBackend, WSGIIdempotencyMiddleware

    app = _bare(url)
    app.wsgi_app = WSGIIdempotencyMiddleware(  # type: ignore[method-assign]
        app.wsgi_app,
        backend=RedisBackend.from_url(url),
        config=HttpConfig(scope_mode="single_tenant"),
    )
    return app


def _own_commit(url: str) -> Flask:
    from tests.benchmarks.rows import with_rows

    return with_rows(_bare(url), in_transaction=False)


def _transaction(url: str) -> Flask:
    from tests.benchmarks.rows import with_rows

    return with_rows(_bare(url), in_transaction=True)


BARE, OURS, DECORATED, PEER, STAND_IN = "bare", "ours", "decorated", "idemkit", "stand-in"
#: Views that write a row: one commits by itself, the row of the other is committed with the answer.
OWN_COMMIT, TRANSACTION = "the view commits", "transaction="
#: As "decorated", but the view may have steps, whose functions do nothing, and may fail.
NO_STEPS, ONE_STEP, ONCE, THREE_STEPS = "no steps", "one step", "once=True", "three steps"
#: As "ours", but records are sealed, with this secret.
SEALED, SECRET = "sealed", "a secret for benchmarks"
#: As "ours", but a replica confirms claims and responses.
CONFIRMED = "min_replicas=1"

_MAKERS = {
    BARE: _bare,
    OURS: _app_wide,
    DECORATED: _decorated,
    CONFIRMED: _confirmed,
    SEALED: _sealed,
    NO_STEPS: partial(_with_steps, steps=0),
    ONE_STEP: partial(_with_steps, steps=1),
    ONCE: partial(_with_steps, steps=1, once=True),
    THREE_STEPS: partial(_with_steps, steps=3),
    PEER: _idemkit,
    OWN_COMMIT: _own_commit,
    TRANSACTION: _transaction,
    # In the place of the peer, which the tests' environment does not have.
    STAND_IN: _app_wide,
}


def make(name: str, url: str = "") -> Flask:
    """Make a contestant's application; gunicorn calls this too.

    :param url: where records live; taken from the environment's REDIS_URL when empty.
    """
    return _MAKERS[name](url or os.environ["REDIS_URL"])


def environ(key: str | None = None, path: str = "/orders") -> dict[str, Any]:
    """A new request, as a WSGI server describes it.

    :param key: its idempotency key; None for a request without.
    """
    made: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost",
        "HTTP_ACCEPT": "*/*",
        "HTTP_USER_AGENT": "bench",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(PAYLOAD)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(PAYLOAD),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if key is not None:
        made["HTTP_IDEMPOTENCY_KEY"] = key
    return made


def fresh_key() -> str:
    """A new key, made as clients make them."""
    return str(uuid.uuid4())


def environs(kind: str, number: int) -> list[dict[str, Any]]:
    """Make requests of a kind. The first of the replays that is served is a first request."""
    if kind == "no key":
        return [environ() for _ in range(number)]
    if kind == "first":
        return [environ(fresh_key()) for _ in range(number)]
    key = fresh_key()
    return [environ(key) for _ in range(number)]
