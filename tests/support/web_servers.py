"""Runs applications behind real web servers, each in its own process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from tests.support.redis_servers import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 30

COMMANDS = {
    "gunicorn": ["-m", "gunicorn", "--worker-class", "gthread", "--threads", "4",
                 # A worker misses the signal to end between its fork and its handlers.
                 "--graceful-timeout", "3",
                 "--bind", "127.0.0.1:{port}", "{app}"],
    "waitress": ["-m", "waitress", "--threads", "4", "--listen", "127.0.0.1:{port}", "{app}"],
    "dev": ["-m", "flask", "--app", "{app}", "run", "--port", "{port}"],
}  # fmt: skip


@contextmanager
def serving(server: str, app: str, folder: Path, **environment: str) -> Iterator[int]:
    """Serve an application and give the port.

    :param server: one of ``COMMANDS``.
    :param app: the application, as ``module:name``.
    :param folder: where the server's output goes.
    :param environment: additions to the environment.
    """
    port = free_port()
    command = [part.format(app=app, port=port) for part in COMMANDS[server]]
    output = folder / f"{server}-{port}.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _until_it_listens(port, process, output)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in output.read_text(), output.read_text()


def _until_it_listens(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.02)


@contextmanager
def connected(port: int) -> Iterator[HTTPConnection]:
    """Open a connection to a server on this machine."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        yield connection
    finally:
        connection.close()
