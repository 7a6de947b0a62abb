"""Closing engines: those that nothing refers to any more, and all when the process ends."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from flask_idempotent._forks import check_process
from flask_idempotent.engine.worker import Worker
from flask_idempotent.stores.base import Store

if TYPE_CHECKING:
    from flask_idempotent.engine.engine import Engine


def close(worker: Worker, store: Store, until: float) -> None:
    """End the threads and connections of an engine; see ``Engine.close``."""
    check_process()
    worker.close(until)
    store.close()


def close_in_background(worker: Worker, store: Store, linger: float) -> None:
    """End the threads and connections of an engine that is gone.

    :param linger: seconds for which writes that the store does not accept are retried.
    """
    # The last reference to an engine may go at any moment in any thread, which must not wait for
    # the store. No thread starts while the interpreter ends.
    with suppress(RuntimeError):
        until = time.monotonic() + linger
        threading.Thread(target=close, args=(worker, store, until), daemon=True).start()


def close_at_exit(engine: Engine) -> None:
    """Close an engine when the process ends, if it is still there."""
    _engines.add(engine)


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # All engines share the time of one: a web server kills a process that takes too long.
    began = time.monotonic()
    for engine in list(_engines):
        engine.close(began + engine.linger)
