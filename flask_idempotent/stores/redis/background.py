"""Something that is asked in the background: now, or again and again for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable

from flask_idempotent import _timing
from flask_idempotent._forks import ForkAware
from flask_idempotent._logging import logger


class Background(ForkAware):
    """Runs a function in a thread of its own, one run at a time.

    The thread starts when a run is wanted, and ends when none is.

    :param function: returns the seconds until its next run, or None to run only when it is asked
        to.
    :param name: the thread's name.
    """

    def __init__(self, function: Callable[[], float | None], name: str) -> None:
        self._function = function
        self._name = name
        super().__init__()

    def reset(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wanted = self._closing = False
        #: How many runs have begun and ended.
        self._begun = self._ended = 0

    def start(self) -> None:
        """Run soon. A run that has begun already does not count.

        :raises RuntimeError: when the process can have no more threads.
        """
        with self._changed:
            self._request()

    def run_and_wait(self, seconds: float) -> bool:
        """Run soon, and return whether that run has ended in time; raises as ``start`` does."""
        with self._changed:
            number = self._begun + 1
            self._request()
            return self._changed.wait_for(lambda: self._ended >= number, seconds)

    def _request(self) -> None:
        self._wanted = True
        self._changed.notify_all()
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        pause: float | None = None
        while self._begin(pause):
            try:
                pause = self._function()
            except Exception:
                logger.exception("the thread %s had an error; it goes on", self._name)
                pause = _timing.BACKGROUND_ERROR_PAUSE
            with self._changed:
                self._ended = self._begun
                self._changed.notify_all()

    def _begin(self, pause: float | None) -> bool:
        """Wait for the next run, and return whether there is one."""
        with self._changed:
            if pause is not None:
                self._changed.wait_for(lambda: self._wanted or self._closing, pause)
            if self._closing or (pause is None and not self._wanted):
                self._thread = None
                return False
            self._wanted = False
            self._begun += 1
            return True

    def close(self) -> None:
        """End the thread; a later ``start`` begins another one."""
        with self._changed:
            thread = self._thread
            self._closing = True
            self._changed.notify_all()
        if thread is not None:
            thread.join()
        self._closing = False
