"""What becomes of bounds on time when the machine paused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.pauses import Tick, overlap
from tests.support.polling import until

#: The ticks of this process, while ``tests/chaos`` runs.
ticks: list[Tick] = []


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
