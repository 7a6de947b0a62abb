"""The application behind gunicorn, the size of the tests, and the table at their end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.chaos.notes import FOLDER, read_notes
from tests.support.polling import until
from tests.support.redis_servers import free_port

ROOT = Path(__file__).parents[2]
#: ``CHAOS=full`` runs each test for as long and with as many as ``make chaos`` does.
FULL = os.environ.get("CHAOS") == "full"

T = TypeVar("T")


def sized(full: T, short: T) -> T:
    """``full`` for ``make chaos``, ``short`` for ``make test``."""
    return full if FULL else short


@dataclass
class Row:
    """One line of the table.

    :param test: what was done.
    :param requests: how many were sent, retries included.
    :param runs: how many runs of a view began.
    :param kills: how many signals, restarts and broken connections there were.
    :param faults: how often a client had to send a request again.
    :param slowest: the longest time, in seconds, from an owner's death to the key's next run or
        answer.
    :param violations: what broke a promise.
    """

    test: str
    requests: int = 0
    runs: int = 0
    kills: int = 0
    faults: int = 0
    slowest: float = 0.0
    violations: list[str] = field(default_factory=list)

    def require(self, condition: object, message: str) -> None:
        """Record a violation unless a condition holds."""
        if not condition:
            self.violations.append(message)

    def conclude(self) -> None:
        """Put the row into the table, and fail where a promise was broken."""
        _rows.append(self)
        print(f"\n{self.test}: {self.requests} requests, {self.runs} runs, {self.kills} kills, "
              f"{self.faults} faults, {len(self.violations)} violations", flush=True)  # fmt: skip
        assert not self.violations, "\n".join(
            [f"{len(self.violations)} violations", *self.violations[:20]]
        )


_rows: list[Row] = []


def row_named(test: str) -> Row:
    """The row with this name, shared by several tests; a new one when there is none."""
    row = next((row for row in _rows if row.test == test), None)
    if row is None:
        row = Row(test)
        _rows.append(row)
    return row


def table() -> str:
    """The table of the tests that ran, as Markdown."""
    lines = [
        "| Test | Requests | Runs | Kills | Faults | Slowest | Violations |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in _rows:
        slowest = f"{row.slowest:.2f} s" if row.slowest else ""
        cells = (row.test, row.requests, row.runs, row.kills or "", row.faults, slowest)
        lines.append("| " + " | ".join(map(str, (*cells, len(row.violations)))) + " |")
    return "\n".join(lines) if _rows else ""


@dataclass
class Strike:
    """A signal that was sent to a worker.

    :param end: when a stopped worker continued.
    """

    pid: int
    number: signal.Signals
    time: float
    end: float = float("inf")


class ServedApp:
    """The application behind gunicorn."""

    def __init__(
        self, port: int, folder: Path, process: subprocess.Popen[bytes], output: Path
    ) -> None:
        self.port = port
        self.folder = folder
        self._output = output
        self.process = process
        self.strikes: list[Strike] = []

    def workers(self) -> list[int]:
        """The workers that run."""
        booted: dict[int, bool] = {}
        for note in read_notes(self.folder, "workers"):
            booted[note["worker"]] = note["event"] == "boot"
        return [pid for pid, alive in booted.items() if alive]

    def deaths(self) -> list[Strike]:
        """When each worker that has ended was aborted, or else exited."""
        ends: dict[int, float] = {}
        for note in read_notes(self.folder, "workers"):
            if note["event"] != "boot":
                ends.setdefault(note["worker"], note["time"])
        return [Strike(pid, signal.SIGABRT, time) for pid, time in ends.items()]

    def exited(self) -> int:
        """How many workers have ended."""
        return sum(note["event"] == "exit" for note in read_notes(self.folder, "workers"))

    def until_exits(self, count: int) -> None:
        """Wait until ``count`` workers have ended."""
        until(lambda: self.exited() >= count, 120)

    def output(self) -> str:
        """What the server wrote."""
        return self._output.read_text()

    def strike(self, pid: int, number: signal.Signals) -> Strike:
        """Send a worker a signal."""
        strike = Strike(pid, number, time.monotonic())
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            self.strikes.append(strike)
        return strike


def _gunicorn(
    port: int, workers: int, kind: str, threads: int, options: tuple[str, ...], app: str
) -> list[str]:
    command = [
        sys.executable, "-m", "gunicorn", "--config", "python:tests.chaos.gunicorn_config",
        "--bind", f"127.0.0.1:{port}", "--workers", str(workers), "--worker-class", kind,
        "--keep-alive", "60", "--backlog", "1024", *options, app,
    ]  # fmt: skip
    return [*command, "--threads", str(threads)] if kind == "gthread" else command


@contextmanager
def serve(
    folder: Path,
    url: str,
    *options: str,
    workers: int,
    kind: str = "gthread",
    threads: int = 4,
    app: str = "tests.chaos.app:app",
    tree: Path = ROOT,
    beside: ServedApp | None = None,
    **settings: object,
) -> Iterator[ServedApp]:
    """Serve the application with gunicorn, and kill all of its processes at the end.

    :param folder: where the history and the server's output go.
    :param url: where records live.
    :param options: more arguments of gunicorn.
    :param kind: the worker class; a ``sync`` worker has one thread.
    :param app: where gunicorn finds the application.
    :param tree: the folder with the package and the tests that are served.
    :param beside: a served application whose port this one shares, as both have ``--reuse-port``.
    :param settings: the application's configuration.
    """
    port = free_port() if beside is None else beside.port
    earlier = 0 if beside is None else len(beside.workers())
    command = _gunicorn(port, workers, kind, threads, options, app)
    # A killed process leaves half a coverage file, and measuring slows down each start.
    environment = {name: value for name, value in os.environ.items() if "COV" not in name}
    environment |= {
        FOLDER: str(folder),
        "CHAOS_CONFIG": json.dumps({"REDIS_URL": url, "IDEMPOTENT_EXPIRE": 900, **settings}),
    }
    output = folder / f"output-{len(list(folder.glob('output-*')))}"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=tree, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    served = ServedApp(port, folder, process, output)
    try:
        count = earlier + workers
        until(lambda: len(served.workers()) >= count or process.poll() is not None, 30)
        assert process.poll() is None, served.output()
        yield served
    finally:
        # The whole group, with stopped workers and those that the master does not know of yet.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def kill_workers(
    served: ServedApp,
    number: signal.Signals,
    *,
    count: int,
    pause: float,
    seed: str,
    least: int = 1,
) -> None:
    """Send a signal to a random worker again and again.

    :param count: how often.
    :param pause: seconds between two.
    :param least: how many other workers must be there meanwhile.
    """
    dice = random.Random(seed)
    for _ in range(count):
        threading.Event().wait(pause)
        struck = {strike.pid for strike in served.strikes}
        until(lambda: len(_alive(served, struck)) > least, 30)  # noqa: B023
        served.strike(dice.choice(_alive(served, struck)), number)


def _alive(served: ServedApp, struck: set[int]) -> list[int]:
    return [pid for pid in served.workers() if pid not in struck]


def stop_workers(
    served: ServedApp,
    *,
    pause: float,
    times: list[float],
    choose: Callable[[], int],
    meanwhile: Callable[[int], AbstractContextManager[object]],
) -> None:
    """Stop a worker for each of these times, in seconds, one after the other.

    :param choose: returns the process id of the worker to stop.
    :param meanwhile: entered with the worker's process id while it is stopped.
    """
    for seconds in times:
        threading.Event().wait(pause)
        strike = served.strike(choose(), signal.SIGSTOP)
        with meanwhile(strike.pid):
            threading.Event().wait(seconds)
            os.kill(strike.pid, signal.SIGCONT)
            strike.end = time.monotonic()
