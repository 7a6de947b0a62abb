"""A real server on an unreliable network: it loses answers, is busy, or has no store."""

from __future__ import annotations

import io
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask, Response, request, send_file
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app

from flask_idempotent import Idempotent
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.web.state import EXTENSION_KEY
from tests.support.clients import Gate

CLIENTS = Path(__file__).parents[2] / "docs" / "examples" / "clients"


class WeakStore(MemoryStore):
    """A store that fails while a test says so."""

    away = False

    def claim(self, *arguments: Any, **options: Any) -> Any:
        if self.away:
            raise StoreUnavailable("it is away", sent=False)
        return super().claim(*arguments, **options)

    def contend(self, *arguments: Any, **options: Any) -> Any:
        if self.away:
            raise StoreUnavailable("it is away", sent=False)
        return super().contend(*arguments, **options)


class Shop:
    """Takes orders at ``/orders``; ``faults`` says what happens to the next requests.

    ``"away"``: the store is. ``"lost"``: the view runs and its answer gets lost. ``"slow"``: the
    connection breaks and the view goes on running. ``"busy"``: that view runs still, and ends
    when this request has been answered. After them the road is good.

    :param lease: seconds; how long a client that came too early is asked to wait.
    """

    def __init__(self, lease: float) -> None:
        self.faults: deque[str] = deque()
        #: The key, the body and the status of each request.
        self.seen: list[tuple[str | None, bytes, int]] = []
        self.orders: list[str] = []
        self._store = WeakStore()
        #: Holds up the next run, where there is one.
        self._gate: Gate | None = None
        self._end_slow: Callable[[], None] = lambda: None
        self.app = self._make_app(lease)
        self._serve = self.app.wsgi_app
        self.app.wsgi_app = self._road  # type: ignore[method-assign]

    def _make_app(self, lease: float) -> Flask:
        app = Flask("shop")
        Idempotent(app, store=self._store, timeout=0, lease=lease, methods=["POST"])

        @app.post("/orders")
        def create_order() -> tuple[dict[str, Any], int]:
            gate, self._gate = self._gate, None
            if gate is not None:
                gate()
            self.orders.append(request.get_json()["product"])
            return {"order": len(self.orders)}, 201

        app.add_url_rule("/", "page", lambda: "<!doctype html><title>Shop</title>")
        app.add_url_rule("/with_fetch.js", "js", lambda: send_file(CLIENTS / "with_fetch.js"))
        return app

    def _road(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["REQUEST_METHOD"] != "POST":
            return self._serve(environ, start_response)
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = io.BytesIO(body)
        fault = self.faults.popleft() if self.faults else ""
        key = environ.get("HTTP_IDEMPOTENCY_KEY")
        if fault == "slow":
            self._start_slowly(environ)
            self.seen.append((key, body, 0))
            return _break(environ)
        answer = self._answer(environ, fault)
        self.seen.append((key, body, answer.status_code))
        return _break(environ) if fault == "lost" else answer(environ, start_response)

    def _start_slowly(self, environ: dict[str, Any]) -> None:
        self._gate = gate = Gate()
        run = threading.Thread(target=run_wsgi_app, args=(self._serve, environ))
        run.start()
        gate.reached()

        def end() -> None:
            gate.open()
            run.join()

        self._end_slow = end

    def _answer(self, environ: dict[str, Any], fault: str) -> Response:
        self._store.away = fault == "away"
        try:
            content, status, headers = run_wsgi_app(self._serve, environ, buffered=True)
        finally:
            self._store.away = False
        if fault == "busy":
            self._end_slow()
        return Response(b"".join(content), status, headers)


def _break(environ: dict[str, Any]) -> list[bytes]:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    return []


@contextmanager
def open_shop(lease: float = 30) -> Iterator[tuple[Shop, str]]:
    """Run a shop on a real server and give its address with it."""
    shop = Shop(lease)
    server = make_server("127.0.0.1", 0, shop.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield shop, f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        shop.app.extensions[EXTENSION_KEY].engine.close()
