"""Runs the shop on Werkzeug's development server."""

from __future__ import annotations

import argparse
import errno
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
  Activity  {base}/activity     (keep it open beside the shop)

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
        with suppress(KeyboardInterrupt):
            serve(create_app(), arguments.host, listen(arguments.host, arguments.port))
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


def serve(app: Flask, host: str, listener: socket.socket) -> None:
    with listener:
        port = listener.getsockname()[1]
        server = make_server(
            host, port, app, threaded=True, request_handler=QuietHandler, fd=listener.fileno()
        )
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    base = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    curl = CURL.format(base=base, key=f"try-{secrets.token_hex(3)}")
    print(HELLO.format(base=base, curl=curl), flush=True)
    server.serve_forever()
