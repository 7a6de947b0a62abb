"""Requests per second behind gunicorn: without a key, with fresh keys, and replays."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.benchmarks.bench import Bench, Findings, Target
from tests.benchmarks.contestants import BARE, OURS, PAYLOAD, Contestant, fresh_key, make
from tests.benchmarks.series import Series, in_turns
from tests.support.web_servers import connected, serving

WORKERS = 2
_CONNECTIONS = 16
#: How many connections one worker takes at most: else one may take all, and the other is idle.
_OF_ONE_WORKER = 12
_SCRIPT = Path(__file__).with_name("load.lua")
#: What the generators send: no key, a fresh one with each request, or the same with all.
_KINDS = {"no key": "none", "first": "fresh", "replay": None}
#: How many times the peer's requests of a kind, and bare Flask's, ours must serve at least.
_LIMITS = {"first": (1.4, 0.4), "replay": (1.25, 0.65)}


def _headers(mode: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if mode != "none":
        headers["Idempotency-Key"] = fresh_key() if mode == "fresh" else mode
    return headers


def _post(connection: HTTPConnection, mode: str) -> None:
    connection.request("POST", "/orders", PAYLOAD, _headers(mode))
    response = connection.getresponse()
    response.read()
    assert response.status == 201, response.status


def _with_wrk(wrk: str, port: int, mode: str, seconds: float) -> float:
    """Requests per second, sent by wrk."""
    size = ["--threads", "1", "--connections", str(_CONNECTIONS), "--duration", f"{seconds:.0f}s"]
    what = ["--script", str(_SCRIPT), f"http://127.0.0.1:{port}", "--", mode, fresh_key()]
    output = subprocess.run([wrk, *size, *what], capture_output=True, text=True, check=True).stdout
    requests, microseconds, failed = map(int, output.rpartition("result ")[2].split())
    assert not failed, output
    return requests / microseconds * 1e6


def _with_threads(port: int, mode: str, seconds: float) -> float:
    """Requests per second, sent by threads of this process, for machines without wrk: fewer."""
    until = time.monotonic() + seconds

    def ask(_: int) -> int:
        count = 0
        with connected(port) as connection:
            while time.monotonic() < until:
                _post(connection, mode)
                count += 1
        return count

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return sum(pool.map(ask, range(_CONNECTIONS))) / seconds


def generator() -> str:
    """What sends the requests."""
    return "wrk" if shutil.which("wrk") else "threads of Python"


@contextmanager
def _in_this_process(app: Flask) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        Contestant("", app).close()


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        pass


def served(
    bench: Bench, name: str, folder: Path, *, workers: int = WORKERS, **environment: str
) -> AbstractContextManager[int]:
    """Serve a contestant's application; the context is the port.

    :param folder: where the server's output goes.
    :param environment: additions to the server's environment.
    """
    if not bench.size.apart:
        return _in_this_process(make(name, bench.server.url))
    app = f"tests.benchmarks.contestants:make({name!r})"
    environment |= {
        "REDIS_URL": bench.server.url,
        "WEB_CONCURRENCY": str(workers),
        "GUNICORN_CMD_ARGS": f"--worker-connections {_OF_ONE_WORKER}",
    }
    return serving("gunicorn", app, folder, **environment)


def measure(bench: Bench) -> Findings:
    """Put each server under load in turn; all of them run."""
    wrk = shutil.which("wrk") if bench.size.apart else None
    load = partial(_with_wrk, wrk) if wrk else _with_threads
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        turns = {}
        for name in (BARE, OURS, bench.peer):
            port = stack.enter_context(served(bench, name, folder))
            for kind in ("no key",) if name == BARE else _KINDS:
                mode = _KINDS[kind] or fresh_key()
                turns[f"{name}, {kind}"] = partial(load, port, mode, bench.size.seconds)
        measured = in_turns(turns, bench.size.loads)
    series = {name: Series(name, "/s", tuple(values)) for name, values in measured.items()}
    title = f"Requests per second behind gunicorn with {WORKERS} workers, by {generator()}"
    return Findings(title, list(series.values()), list(_targets(series, bench.peer)))


def _targets(series: Mapping[str, Series], peer: str) -> Iterator[Target]:
    for kind, (over_peer, over_bare) in _LIMITS.items():
        ours = series[f"{OURS}, {kind}"]
        for other, limit in ((f"{peer}, {kind}", over_peer), (f"{BARE}, no key", over_bare)):
            name = f"{OURS}, {kind}: requests per second, over those of {other}"
            yield Target(name, ours.over(series[other]), limit, is_minimum=True)
