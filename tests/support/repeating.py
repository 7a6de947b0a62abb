"""Work that is done again and again while a test runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(work: Callable[[], object], seconds: float) -> Iterator[None]:
    """Do something again and again meanwhile, in a thread."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            work()

    thread = threading.Thread(target=run, name="repeated")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
