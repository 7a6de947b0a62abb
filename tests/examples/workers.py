"""gunicorn's configuration: each worker says when it has loaded the application.

Until then a worker that gets SIGTERM may be in the midst of an import, and gunicorn's way out of
it leaves a traceback.
"""

from __future__ import annotations

from typing import Any

READY = "Worker ready"


def post_worker_init(worker: Any) -> None:
    worker.log.info(READY)
