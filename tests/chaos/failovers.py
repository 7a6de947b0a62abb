"""What must be true of a failover: what it may lose, and how soon there is service again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tests.chaos.history import History
from tests.chaos.pauses import in_time
from tests.chaos.services import DEAD_WITHIN
from tests.chaos.serving import Row

#: Seconds that a replica may lag behind on a busy machine.
LAG = 1.0


class Outage(Protocol):
    """A failover, and when it happened."""

    #: When the primary failed.
    since: float
    #: When another one had taken over.
    until: float

    def may_lose(self, since: float, to: float) -> bool:
        """Whether something that lasted for this time may be lost."""
        ...


def lost_keys(row: Row, history: History, outages: Sequence[Outage]) -> set[str]:
    """The keys that ran again; each run but the last may have been lost in a failover."""
    lost = {key for key, runs in history.runs.items() if len(runs) > 1}
    for key in lost:
        for run in history.runs[key][:-1]:
            excused = any(outage.may_lose(run.start, run.completed) for outage in outages)
            times = ", ".join(f"{outage.since:.3f} to {outage.until:.3f}" for outage in outages)
            row.require(
                excused,
                f"{key} ran again, and {run}, stored at {run.completed:.3f}, was not lost in a "
                f"failover ({times})",
            )
    return lost


def refused_in_time(row: Row, history: History) -> None:
    """No request waited longer for its 503 than for a dead store."""
    asked = {line["request"]: line for line in history.named("ask")}
    for line in history.named("answer"):
        if line["status"] == 503:
            since = asked[line["request"]]["time"]
            seconds = line["time"] - since - history.paused(line["pid"], since, line["time"])
            row.slowest = max(row.slowest, seconds)
            row.require(seconds < DEAD_WITHIN, f"a 503 took {seconds:.3f} s")


def served_soon(row: Row, history: History, since: float, keys: set[str] | None = None) -> None:
    """A view ran within two seconds of the end of a failover.

    :param since: when it ended.
    :param keys: those that were not served meanwhile; by default all.
    """
    runs = [run for key in keys or history.runs for run in history.runs[key]]
    first = min((run.start for run in runs if run.start > since), default=None)
    is_soon = first is not None and in_time(since, first, 2)
    row.require(is_soon, f"the failover ended at {since:.3f}, and the next view began at {first}")
