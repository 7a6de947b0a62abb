"""Processes that fork, and processes whose threads are greenlets."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import pytest
import redis

from tests.chaos.forking import LEASE, LONG, MACHINE_PAUSED
from tests.chaos.pauses import MachinePaused, fail_unless_paused, in_time, repeat_if_paused
from tests.chaos.services import tally
from tests.chaos.serving import FULL, ROOT, sized
from tests.support.polling import until
from tests.support.redis_servers import Server, free_port, valkey_binary

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
]

ROW = "forks, gevent, multiprocessing, uWSGI"


@contextmanager
def running(command: list[str], folder: Path, url: str, **environment: str) -> Iterator[int]:
    """Run a program, and kill it with all its children at the end; gives its process id."""
    # A killed process leaves half a coverage file.
    environment = {n: v for n, v in os.environ.items() if "COV" not in n} | environment
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment | {"REDIS_URL": url}, stdout=file, stderr=file,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process.pid
    except BaseException as error:
        error.add_note(output.read_text())
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


Program = Callable[[Path, str], None]


def _program(*arguments: str, patched: bool = False) -> Program:
    """A program that checks itself."""
    module = ["-m", "gevent.monkey", "--module"] if patched else ["-m"]

    def run(folder: Path, url: str) -> None:
        command = [sys.executable, *module, "tests.chaos.forking", *arguments]
        with running(command, folder, url) as pid:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            until(lambda: os.waitid(os.P_PID, pid, options), 40)
            result = os.waitid(os.P_PID, pid, options)
            assert result is not None
            if result.si_status == MACHINE_PAUSED:
                raise MachinePaused((folder / "output").read_text())
            assert result.si_status == 0

    return run


def _post(port: int, key: str, milliseconds: int) -> tuple[int, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        headers = {"Idempotency-Key": key}
        connection.request("POST", f"/run/{milliseconds}", headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def _answers(port: int) -> bool:
    with (
        suppress(OSError),
        closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection,
    ):
        connection.request("GET", "/pid")
        return connection.getresponse().status == 200
    return False


def _duplicates(port: int, url: str, *, keys: int, each: int, milliseconds: int) -> None:
    """Send duplicates at once: each key runs once, and its answer is everybody's."""
    names = [f"key-{milliseconds}-{number % keys}" for number in range(keys * each)]
    with ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(lambda key: (key, *_post(port, key, milliseconds)), names))
    assert {status for _, status, _ in answers} == {200}, Counter(answers)
    assert len({(key, body) for key, _, body in answers}) == keys
    with redis.Redis.from_url(url) as notes:
        assert {int(notes.get(f"runs-{key}") or 0) for key in names} == {1}


def _gunicorn(*options: str, used: bool, each: int = 3) -> Program:
    """gunicorn with an application that was used before its workers were forked, or not."""

    def run(folder: Path, url: str) -> None:
        port = free_port()
        command = [
            sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}",
            *options, "tests.chaos.forking:app",
        ]  # fmt: skip
        with running(command, folder, url, USED="yes" if used else ""):
            _serve(port, url, each)

    return run


def _uwsgi(*options: str, used: bool) -> Program:
    """uWSGI, which forks without telling Python."""

    def run(folder: Path, url: str) -> None:
        if UWSGI is None:
            pytest.skip("uwsgi is not installed on this machine")
        port = free_port()
        command = [
            UWSGI, "--http-socket", f"127.0.0.1:{port}", "--master", "--enable-threads",
            "--processes", "2", "--threads", "8", "--need-app", "--virtualenv", sys.prefix,
            "--pythonpath", str(ROOT), "--module", "tests.chaos.forking:app", *options,
        ]  # fmt: skip
        with running(command, folder, url, USED="yes" if used else ""):
            _serve(port, url, each=3)

    return run


def _serve(port: int, url: str, each: int) -> None:
    until(lambda: _answers(port), 20)
    _duplicates(port, url, keys=3, each=each, milliseconds=300)
    # Longer than a lease: each child's own worker thread renews it.
    _duplicates(port, url, keys=2, each=each, milliseconds=LONG)


def _crowd(folder: Path, url: str) -> None:
    """Two hundred on one gevent worker."""
    port = free_port()
    command = [
        sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}",
        "--worker-class", "gevent", "tests.chaos.forking:app",
    ]  # fmt: skip
    with running(command, folder, url):
        until(lambda: _answers(port), 20)
        started = time.monotonic()
        _duplicates(port, url, keys=1, each=200, milliseconds=500)
        assert in_time(started, time.monotonic(), 10)
        _duplicates(port, url, keys=sized(100, 20), each=2, milliseconds=50)


PRELOAD = ("--preload", "--workers", "2", "--worker-class")
UWSGI = shutil.which("uwsgi", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

PROGRAMS: dict[str, Program] = {
    "fork after use, both ways": _program("fork_after_use"),
    "fork unknown to Python": _program("untold_fork"),
    "fork in a view, child exits": _program("fork_in_view", "exit"),
    "fork in a view, child ends at once": _program("fork_in_view", "_exit"),
    "fork in a view, child fails": _program("fork_in_view", "fail"),
    "fork in a view, child goes on": _program("fork_in_view", "go on"),
    "multiprocessing, fork": _program("pool_of_processes", "fork"),
    "multiprocessing, spawn": _program("pool_of_processes", "spawn"),
    "patched by gevent": _program("gevent_patched", patched=True),
    "two hundred on a gevent worker": _crowd,
    "preload, threads, used": _gunicorn(*PRELOAD, "gthread", "--threads", "9", used=True),
    "preload, gevent, used": _gunicorn(*PRELOAD, "gevent", used=True),
    "uWSGI, used": _uwsgi(used=True),
    "uWSGI": _uwsgi(used=False),
    "uWSGI, lazy, used": _uwsgi("--lazy-apps", used=True),
    "uWSGI, lazy": _uwsgi("--lazy-apps", used=False),
}
if FULL:
    PROGRAMS["preload, gevent"] = _gunicorn(*PRELOAD, "gevent", used=False)
    PROGRAMS["preload, sync, used"] = _gunicorn(
        *PRELOAD, "sync", "--workers", "4", used=True, each=2
    )


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """The programs of this session, side by side, each in a database of its own."""
    items = [item for item in request.session.items if item.path == request.path]
    names = {item.callspec.params["name"] for item in items}  # type: ignore[attr-defined]
    folders = {name: tmp_path_factory.mktemp("program") for name in PROGRAMS}
    server = Server(valkey_binary(), tmp_path_factory.mktemp("valkey"), "--databases", "99")
    address = f"redis://127.0.0.1:{server.port}"
    with closing(server.start().client), ThreadPoolExecutor(sized(2, 7)) as pool:
        try:
            yield {
                name: pool.submit(
                    repeat_if_paused,
                    partial(counted, program, folders[name], f"{address}/{number}"),
                )
                for number, (name, program) in enumerate(PROGRAMS.items())
                if name in names
            }
        finally:
            pool.shutdown()
            server.stop()


def counted(program: Program, folder: Path, url: str) -> None:
    """Run a program, and count what happened."""
    with redis.Redis.from_url(url) as notes:
        notes.flushdb()
    with fail_unless_paused(LEASE, spare=LEASE / 2):
        program(folder, url)
    with redis.Redis.from_url(url) as notes:
        tally.add("requests", int(notes.get("requests") or 0))
        tally.add("runs", sum(int(notes.get(name) or 0) for name in notes.scan_iter("runs-*")))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, results: dict[str, Future[None]]) -> None:
    """However a process forks, parent and child keep their own claims and never hang."""
    results[name].result()
