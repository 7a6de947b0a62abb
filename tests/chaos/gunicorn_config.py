"""gunicorn's configuration: which workers are there, and when they stood still."""

from __future__ import annotations

from typing import Any

from tests.chaos.notes import note
from tests.chaos.pauses import PauseMonitor, Tick

#: Seconds by which a tick is late before it is worth a line.
WORTH_A_LINE = 0.02


def post_worker_init(worker: Any) -> None:
    note("boot", kind="workers", worker=worker.pid)
    PauseMonitor(tell)


def tell(tick: Tick) -> None:
    due, came = tick
    if came - due > WORTH_A_LINE:
        note("late", kind="ticks", due=due)


def child_exit(server: Any, worker: Any) -> None:
    note("exit", kind="workers", worker=worker.pid)


def worker_abort(worker: Any) -> None:
    note("abort", kind="workers", worker=worker.pid)
