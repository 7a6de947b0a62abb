"""How long this machine stood still: what a bound must allow for, measured and not guessed.

A heart beats beside the tests, and in each process that they serve. A beat is a short sleep and a
round trip through another process, as a wake-up and a command to the store are. By as much as its
beats come late, whatever else happens may come late as well, and nobody is to blame.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.polling import until

#: Seconds that a beat sleeps.
_BEAT = 0.01

#: Two monotonic times: when a beat was due, and when it came.
Late = tuple[float, float]


class Heart:
    """Beats in a thread, and tells of each beat when it was due and when it came."""

    def __init__(self, tell: Callable[[Late], object]) -> None:
        self._tell = tell
        self._over = threading.Event()
        # It gives back what it is given: the shortest of all servers.
        self._echo = subprocess.Popen(
            ["cat"], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        assert self._echo.stdin is not None
        assert self._echo.stdout is not None
        while not self._over.is_set():
            due = time.monotonic() + _BEAT
            self._over.wait(_BEAT)
            self._echo.stdin.write(b".")
            self._echo.stdout.read(1)
            self._tell((due, time.monotonic()))

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._echo.communicate()


#: The beats of this process, while ``tests/chaos`` runs.
beats: list[Late] = []


def overlap(beats: list[Late], since: float, to: float) -> float:
    """How many of these seconds beats were late."""
    return sum(max(0.0, min(came, to) - max(due, since)) for due, came in beats)


def in_time(since: float, to: float, bound: float) -> bool:
    """Whether something took less than so many seconds, but for those this machine stood still.

    Every bound on time in ``tests/chaos`` is checked here.
    """
    if to - since < bound:
        return True
    # A beat that is due is perhaps not noted yet.
    until(lambda: beats[-1][1] > to)
    return to - since - overlap(beats, since, to) < bound


def standstills(beats: list[Late], lease: float, spare: float) -> list[Late]:
    """The leases within which more time was lost than there is to spare."""
    windows = [(due, due + lease) for due, _ in beats]
    return [window for window in windows if overlap(beats, *window) > spare]


class Disturbed(Exception):
    """This machine stood still, so that what failed proves nothing."""


@contextmanager
def living(lease: float, spare: float) -> Iterator[None]:
    """Call a failure a disturbance where an owner of this process may have looked dead.

    :param spare: seconds of a lease that its owner need not have.
    """
    since = time.monotonic()
    try:
        yield
    except AssertionError as error:
        now = time.monotonic()
        until(lambda: beats[-1][1] > now)
        if not standstills([late for late in beats if late[1] > since], lease, spare):
            raise
        raise Disturbed(f"this machine stood still, and so: {error}") from error


def undisturbed(work: Callable[[], None], tries: int = 3) -> None:
    """Do something again where it was disturbed; the last time that is a failure as well."""
    for number in range(1, tries):
        try:
            return work()
        except Disturbed as disturbed:
            print(f"\ntry {number}: {disturbed}")
    return work()
