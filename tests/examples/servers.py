"""Runs the shop behind a real web server, as a reader of the README would."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.examples import workers
from tests.support.polling import until
from tests.support.redis_servers import free_port

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "docs" / "examples" / "shop"
START_SECONDS = 30
WORKERS = 2


class Answer:
    """What a web server answered."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


def send(url: str, data: bytes | None = None, **headers: str) -> Answer:
    """Send one request, following no redirect; ``content_type="…"`` is a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, named)
    try:
        with _opener.open(request, timeout=30) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


class Shop:
    """A running shop."""

    def __init__(self, base: str, process: subprocess.Popen[str]) -> None:
        self.base = base
        self.process = process

    def counts(self) -> dict[str, int]:
        feed = json.loads(send(f"{self.base}/activity.json").body)
        return dict(feed["counts"])

    def form_key(self) -> str:
        page = send(f"{self.base}/").body.decode()
        found = re.search(r'name="__idempotent_key" value="([0-9a-f]{32})"', page)
        assert found is not None
        return found[1]


@contextmanager
def shop(kind: str, folder: Path, *, seconds: float = 0.5) -> Iterator[Shop]:
    """Run the shop under the development server or gunicorn, on its own embedded server."""
    port = free_port()
    environment = os.environ | {
        "TMPDIR": str(folder),
        "FLASK_SHOP_ORDER_SECONDS": str(seconds),
        # How long a retry waits for a worker that was killed.
        "FLASK_IDEMPOTENT_LEASE": "2",
        "PYTHONWARNINGS": "default",
    }
    lines: list[str] = []
    with _run(_command(kind, port), environment, lines) as process:
        base = f"http://127.0.0.1:{port}"
        _until_it_answers(base, process, lines)
        if kind == "gunicorn":
            until(lambda: sum(workers.READY in line for line in lines) == WORKERS, START_SECONDS)
        yield Shop(base, process)
    assert "Traceback" not in "".join(lines), "".join(lines)


@contextmanager
def _run(
    command: list[str], environment: dict[str, str], lines: list[str]
) -> Iterator[subprocess.Popen[str]]:
    """Run a server, and end it with SIGINT.

    :param lines: gets the lines that it writes.
    """
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )

    def read() -> None:
        for line in process.stdout or ():
            lines.append(line)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            reader.join()
            if process.stdout is not None:
                process.stdout.close()


def _command(kind: str, port: int) -> list[str]:
    if kind == "dev":
        return [sys.executable, str(SHOP / "app.py"), "--port", str(port)]
    return [
        sys.executable, "-m", "gunicorn", "--chdir", str(SHOP), "app:app",
        "--config", workers.__file__, "--workers", str(WORKERS), "--threads", "4",
        "--bind", f"127.0.0.1:{port}",
        # Between its fork and its signal handlers a worker does not hear that it is to end;
        # then gunicorn ends it by force, after this time instead of its 30 seconds.
        "--graceful-timeout", "3",
    ]  # fmt: skip


def _until_it_answers(base: str, process: subprocess.Popen[str], lines: list[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            send(f"{base}/activity.json")
            return
        except OSError:
            assert process.poll() is None, "".join(lines)
            assert time.monotonic() < deadline, "".join(lines)
            time.sleep(0.05)
