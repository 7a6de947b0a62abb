"""Runs the shop on Werkzeug's development server, in a worker that may be killed."""

from __future__ import annotations

import argparse
import errno
import multiprocessing
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

HELLO = """
  Shop      {base}/
  Activity  {base}/activity     (keep it open beside the shop; a button kills the worker)

Or order with curl. Send this line twice, at once or one after the other: the second request
gets the first one's response, "Idempotent-Replayed: true" says so, and there is one order.

  {curl}
  {curl}

Ctrl-C ends the shop.
"""
CURL = (
    "curl -i {base}/api/orders -H 'Idempotency-Key: \"{key}\"'"
    ' -H "Content-Type: application/json" -d \'{{"product": "teapot", "quantity": 2}}\''
)


class QuietHandler(WSGIRequestHandler):
    """Leaves the page's polling out of the log, so that the requests that matter stay in view."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if not self.path.startswith(("/activity.json", "/static/")):
            super().log_request(code, size)


def main(create_app: Callable[[], Flask]) -> None:
    """Run the shop until Ctrl-C."""
    arguments = parse_arguments()
    # SIGTERM stops the shop as Ctrl-C does, and cleans up as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="shop-", ignore_cleanup_errors=True) as folder:
        os.environ.setdefault("FLASK_SHOP_DATABASE", f"{folder}/orders.sqlite3")
        with suppress(KeyboardInterrupt), listen(arguments.host, arguments.port) as listener:
            greet(arguments.host, listener)
            keep_serving(create_app, arguments.host, listener)
        # A second Ctrl-C must not interrupt the clean-up with a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the demo shop of Flask-Idempotent.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", default=5000, type=int, help="port to listen on (%(default)s)")
    return parser.parse_args()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on *port*, or on a free port where that one is taken."""
    try:
        return bind(host, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            sys.exit(f"Cannot listen on {host}: {error.strerror}")
    free = bind(host, 0)
    print(f"Port {port} is taken by another program; using {free.getsockname()[1]} instead.")
    return free


def bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def greet(host: str, listener: socket.socket) -> None:
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    base = f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}"
    curl = CURL.format(base=base, key=f"try-{secrets.token_hex(3)}")
    print(HELLO.format(base=base, curl=curl), flush=True)


def keep_serving(create_app: Callable[[], Flask], host: str, listener: socket.socket) -> None:
    """Run a worker, and another one whenever it is killed.

    Clients that connect in between wait for the next worker: the listening socket stays open.
    """
    context = multiprocessing.get_context("fork")
    while True:
        worker = context.Process(target=serve, args=(create_app, host, listener))
        worker.start()
        try:
            worker.join()
        except KeyboardInterrupt:
            worker.terminate()
            worker.join()
            raise
        if worker.exitcode != -signal.SIGKILL:
            sys.exit(worker.exitcode)
        print("The worker was killed. The next one starts.", flush=True)


def serve(create_app: Callable[[], Flask], host: str, listener: socket.socket) -> None:
    """Serve requests until SIGTERM: the life of a worker."""
    # Ctrl-C goes to all processes of a terminal; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = make_server(
        host,
        listener.getsockname()[1],
        create_app(),
        threaded=True,
        request_handler=QuietHandler,
        fd=listener.fileno(),
    )
    server.serve_forever()
