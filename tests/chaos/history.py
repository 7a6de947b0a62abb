"""What happened in the served processes, as their notes say."""

from __future__ import annotations

import math
import signal
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from tests.chaos.notes import Note, read_notes
from tests.chaos.pauses import long_pauses
from tests.chaos.serving import Strike
from tests.support.pauses import Tick, overlap


@dataclass
class Run:
    """One run of a view."""

    key: str
    owner: str
    attempt: int
    pid: int
    run: str
    request: str
    path: str
    start: float
    end: float = math.inf
    completed: float = math.inf

    def __str__(self) -> str:
        return f"run {self.run[:8]} (pid {self.pid}, attempt {self.attempt}, at {self.start:.3f})"


@dataclass
class Ask:
    """One request that reached a worker.

    :param end: when its view started or it was answered.
    """

    pid: int
    time: float
    end: float = math.inf

    def cut_by(self, deaths: dict[int, float]) -> bool:
        """Whether the death of its worker ended it."""
        return self.end == math.inf and self.pid in deaths


class History:
    """What the notes of all processes say.

    :param folder: where they are.
    :param lease: seconds that a claim outlives its owner; the default is the library's.
    """

    def __init__(self, folder: Path, lease: float = 30.0) -> None:
        self.notes = read_notes(folder)
        self._lease = lease
        self._ticks: dict[int, list[Tick]] = defaultdict(list)
        for line in read_notes(folder, "ticks"):
            self._ticks[line["pid"]].append((line["due"], line["time"]))
        self.runs: dict[str, list[Run]] = defaultdict(list)
        self.asks: dict[str, list[Ask]] = defaultdict(list)
        self.answered: dict[str, list[float]] = defaultdict(list)
        #: How often ``lease_lost`` was sent for each owner.
        self.leases_lost: Counter[str] = Counter()
        self._owners: dict[str, Run] = {}
        self._asks: dict[str, Ask] = {}
        for line in self.notes:
            handle = getattr(self, f"_on_{line['event']}", None)
            if handle is not None:
                handle(line)

    @property
    def count(self) -> int:
        """How many runs began."""
        return sum(map(len, self.runs.values()))

    @property
    def running(self) -> list[Run]:
        """The runs that have begun and not ended."""
        return [run for runs in self.runs.values() for run in runs if run.end == math.inf]

    @cached_property
    def stops(self) -> list[Strike]:
        """The pauses of the machine that made a worker lose its leases, as if it was stopped.

        A claim is renewed when a third of its lease is over, in the next of the worker's six rounds
        in a lease. So half a lease is to spare.
        """
        return [
            Strike(pid, signal.SIGSTOP, since, to)
            for pid, ticks in self._ticks.items()
            for since, to in long_pauses(ticks, self._lease, self._lease / 2)
        ]

    @cached_property
    def late(self) -> set[str]:
        """The keys of which an owner paused for so long that it looked dead."""
        runs = chain.from_iterable(self.runs.values())
        return {run.key for run in runs if struck(run, self.stops)}

    def paused(self, pid: int, since: float, to: float) -> float:
        """For how many of these seconds a worker paused."""
        return overlap(self._ticks[pid], since, to)

    def named(self, event: str) -> list[Note]:
        return [note for note in self.notes if note["event"] == event]

    def _on_ask(self, line: Note) -> None:
        ask = self._asks[line["request"]] = Ask(line["pid"], line["time"])
        self.asks[line["key"]].append(ask)

    def _on_start(self, line: Note) -> None:
        names = ("key", "owner", "attempt", "pid", "run", "request", "path")
        run = Run(**{name: line[name] for name in names}, start=line["time"])
        self._owners[run.owner] = run
        self.runs[run.key].append(run)
        self._asks[run.request].end = run.start

    def _on_end(self, line: Note) -> None:
        self._owners[line["owner"]].end = line["time"]

    def _on_answer(self, line: Note) -> None:
        ask = self._asks[line["request"]]
        ask.end = min(ask.end, line["time"])
        if line["status"] == 201:
            self.answered[line["key"]].append(line["time"])

    def _on_completed(self, line: Note) -> None:
        # A response that is stored in the background has no request that names its owner, and one
        # that was found in the view's database no run in this process.
        runs = [run for run in self.runs[line["key"]] if run.pid == line["pid"]]
        run = self._owners.get(line["owner"]) or next(reversed(runs), None)
        if run is not None:
            run.completed = line["time"]

    def _on_lease_lost(self, line: Note) -> None:
        # By owner: when a process is stopped between claim and view, the lease may be lost before
        # the view starts.
        self.leases_lost[line["owner"]] += 1


def struck(run: Run, strikes: list[Strike]) -> Strike | None:
    """The strike that hit a run: while it ran, or before its response was known to be stored."""
    for strike in strikes:
        if strike.pid == run.pid and run.start <= strike.end and strike.time <= run.completed:
            return strike
    return None
