"""gunicorn's configuration: which workers are there."""

from __future__ import annotations

from typing import Any

from tests.chaos.notes import note


def post_worker_init(worker: Any) -> None:
    note("boot", kind="workers", worker=worker.pid)


def child_exit(server: Any, worker: Any) -> None:
    note("exit", kind="workers", worker=worker.pid)


def worker_abort(worker: Any) -> None:
    note("abort", kind="workers", worker=worker.pid)
