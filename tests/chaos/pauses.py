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


#: The ticks of this process, while ``tests/chaos`` runs.
ticks: list[Tick] = []


def overlap(ticks: list[Tick], since: float, to: float) -> float:
    """For how many of these seconds the machine paused."""
    return sum(max(0.0, min(came, to) - max(due, since)) for due, came in ticks)


def in_time(since: float, to: float, bound: float) -> bool:
    """Whether something took less than ``bound`` seconds, not counting the machine's pauses.

    Every bound on time in ``tests/chaos`` is checked here.
    """
    if to - since < bound:
        return True
    # The last ticks may not be recorded yet.
    until(lambda: ticks[-1][1] > to)
    return to - since - overlap(ticks, since, to) < bound


def long_pauses(ticks: list[Tick], lease: float, spare: float) -> list[Tick]:
    """The leases within which the machine paused for longer than there was to spare."""
    windows = [(due, due + lease) for due, _ in ticks]
    return [window for window in windows if overlap(ticks, *window) > spare]


class MachinePaused(Exception):
    """The machine paused, so that the failure proves nothing."""


@contextmanager
def fail_unless_paused(lease: float, spare: float) -> Iterator[None]:
    """Raise ``MachinePaused`` for a failure when the machine paused for so long that leases lapsed.

    :param lease: seconds of the leases that matter.
    :param spare: seconds of a lease that may be lost without harm.
    """
    since = time.monotonic()
    try:
        yield
    except AssertionError as error:
        now = time.monotonic()
        until(lambda: ticks[-1][1] > now)
        if not long_pauses([late for late in ticks if late[1] > since], lease, spare):
            raise
        raise MachinePaused(f"the machine paused, and then: {error}") from error


def repeat_if_paused(work: Callable[[], None], tries: int = 3) -> None:
    """Repeat work during which the machine paused; the last try's pause is a failure."""
    for number in range(1, tries):
        try:
            return work()
        except MachinePaused as pause:
            print(f"\ntry {number}: {pause}")
    return work()
