"""How long this machine paused: measured, so that bounds on time can allow for it.

A thread ticks beside the tests, and in each process that they serve. A tick is a short sleep and a
round trip through another process, like a wake-up and a command to the store. If ticks are late,
anything else may be late by as much, through no fault of the library.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.polling import until

#: Seconds between two ticks.
_TICK = 0.01

#: Two monotonic times: when a tick was due, and when it came.
Tick = tuple[float, float]


class PauseMonitor:
    """Ticks in a thread, and reports of each tick when it was due and when it came.

    :param report: called with each tick.
    """

    def __init__(self, report: Callable[[Tick], object]) -> None:
        self._report = report
        self._over = threading.Event()
        # It sends back what it receives: the shortest of all servers.
        self._echo = subprocess.Popen(
            ["cat"], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        assert self._echo.stdin is not None
        assert self._echo.stdout is not None
        while not self._over.is_set():
            due = time.monotonic() + _TICK
            self._over.wait(_TICK)
            self._echo.stdin.write(b".")
            self._echo.stdout.read(1)
            self._report((due, time.monotonic()))

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._echo.communicate()


def overlap(ticks: list[Tick], since: float, to: float) -> float:
    """For how many of these seconds the machine paused."""
    return sum(max(0.0, min(came, to) - max(due, since)) for due, came in ticks)


@contextmanager
def within(bound: float, *, at_least: float = 0.0) -> Iterator[None]:
    """Fail if the block takes ``bound`` seconds or more, not counting the machine's pauses.

    :param at_least: seconds that it must take.
    """
    ticks: list[Tick] = []
    monitor = PauseMonitor(ticks.append)
    since = time.monotonic()
    try:
        yield
        to = time.monotonic()
        if to - since >= bound:  # The last ticks may not be recorded yet.
            until(lambda: ticks and ticks[-1][1] > to)
    finally:
        monitor.stop()
    assert to - since >= at_least, f"it took only {to - since:.3f} s"
    seconds = to - since - overlap(ticks, since, to)
    assert seconds < bound, f"it took {seconds:.3f} s, without the machine's pauses"
