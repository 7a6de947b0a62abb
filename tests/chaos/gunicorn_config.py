"""gunicorn's configuration: notes of which workers run, and when they paused."""

from __future__ import annotations

import os
from typing import Any

from tests.chaos.notes import note
from tests.support.pauses import PauseMonitor, Tick

#: Seconds by which a tick is late before it is noted.
NOTED_DELAY = 0.02


def post_worker_init(worker: Any) -> None:
    note("boot", kind="workers", worker=worker.pid, tree=os.getcwd())
    PauseMonitor(note_tick)


def note_tick(tick: Tick) -> None:
    due, came = tick
    if came - due > NOTED_DELAY:
        note("late", kind="ticks", due=due)


def child_exit(server: Any, worker: Any) -> None:
    note("exit", kind="workers", worker=worker.pid)


def worker_abort(worker: Any) -> None:
    note("abort", kind="workers", worker=worker.pid)
