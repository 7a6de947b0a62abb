"""How long this machine stood still: what a bound must allow for, measured and not guessed.

A monitor ticks beside the tests, and in each process that they serve. A tick is a short sleep and a
round trip through another process, as a wake-up and a command to the store are. By as much as its
ticks come late, whatever else happens may come late as well, and nobody is to blame.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.polling import until

#: Seconds that a tick sleeps.
_TICK = 0.01

#: Two monotonic times: when a tick was due, and when it came.
Tick = tuple[float, float]


class PauseMonitor:
    """Beats in a thread, and tells of each tick when it was due and when it came."""

    def __init__(self, tell: Callable[[Tick], object]) -> None:
        self._tell = tell
        self._over = threading.Event()
        # It gives back what it is given: the shortest of all servers.
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
            self._tell((due, time.monotonic()))

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._echo.communicate()


#: The ticks of this process, while ``tests/chaos`` runs.
ticks: list[Tick] = []


def overlap(ticks: list[Tick], since: float, to: float) -> float:
    """How many of these seconds ticks were late."""
    return sum(max(0.0, min(came, to) - max(due, since)) for due, came in ticks)


def in_time(since: float, to: float, bound: float) -> bool:
    """Whether something took less than so many seconds, but for those this machine stood still.

    Every bound on time in ``tests/chaos`` is checked here.
    """
    if to - since < bound:
        return True
    # A tick that is due is perhaps not noted yet.
    until(lambda: ticks[-1][1] > to)
    return to - since - overlap(ticks, since, to) < bound


def long_pauses(ticks: list[Tick], lease: float, spare: float) -> list[Tick]:
    """The leases within which more time was lost than there is to spare."""
    windows = [(due, due + lease) for due, _ in ticks]
    return [window for window in windows if overlap(ticks, *window) > spare]


class MachinePaused(Exception):
    """This machine stood still, so that what failed proves nothing."""


@contextmanager
def fail_unless_paused(lease: float, spare: float) -> Iterator[None]:
    """Call a failure a disturbance where an owner of this process may have looked dead.

    :param spare: seconds of a lease that its owner need not have.
    """
    since = time.monotonic()
    try:
        yield
    except AssertionError as error:
        now = time.monotonic()
        until(lambda: ticks[-1][1] > now)
        if not long_pauses([late for late in ticks if late[1] > since], lease, spare):
            raise
        raise MachinePaused(f"this machine stood still, and so: {error}") from error


def repeat_if_paused(work: Callable[[], None], tries: int = 3) -> None:
    """Do something again where it was disturbed; the last time that is a failure as well."""
    for number in range(1, tries):
        try:
            return work()
        except MachinePaused as disturbed:
            print(f"\ntry {number}: {disturbed}")
    return work()
