"""Benches, sizes, findings and targets: what a measure is given, and what it returns."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tests.benchmarks.runners import Runner, runners
from tests.benchmarks.series import Series
from tests.support.redis_servers import Server


@dataclass(frozen=True)
class Size:
    """How much is measured.

    :param rounds: how many turns each contestant has.
    :param restarts: how many times the contestants' processes are started for these rounds: where
        code and data happen to lie in memory changes the time of a request by some per cent.
    :param calls: requests in one turn.
    :param records: how many records the memory is measured over.
    :param bodies: KiB of the bodies whose compression is measured.
    :param waiters: how many requests wait in a small group.
    :param crowd: how many requests wait in a large group.
    :param wakes: how many times a small group is woken; a large one a seventh as often.
    :param live: numbers of records on a server, each measured.
    :param held: numbers of claims that a process holds, each measured.
    :param seconds: how long a server is under load in one turn.
    :param loads: how many turns of load each server has.
    :param fields: bytes of a large form that has nothing but short fields.
    :param file: bytes of the file in a large multipart form.
    :param uploads: how many times each large form is uploaded.
    :param starts: how many times the start of a process is measured.
    :param databases: the kinds of databases that a view writes its rows into.
    :param row_rounds: how many turns each such view has, and each one with a replica.
    :param row_restarts: how many times its process is started for these rounds.
    :param primaries: of how many primaries clusters are made.
    :param keys: how many keys are sent to a cluster.
    :param samples: requests of each kind under the profiler.
    :param settle: seconds that waiters are given to fall asleep after they last read the record.
    :param apart: whether each contestant runs in a process of its own.
    """

    rounds: int = 84
    restarts: int = 6
    calls: int = 100
    records: int = 10_000
    bodies: tuple[int, ...] = (1, 4, 16, 64, 256)
    waiters: int = 32
    crowd: int = 1_000
    wakes: int = 21
    live: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    held: tuple[int, ...] = (1, 100, 10_000)
    seconds: float = 2
    loads: int = 3
    fields: int = 20 * 1024 * 1024
    file: int = 30_000_000
    uploads: int = 9
    starts: int = 9
    databases: tuple[str, ...] = ("SQLite", "PostgreSQL")
    row_rounds: int = 21
    row_restarts: int = 3
    primaries: tuple[int, ...] = (1, 2, 3)
    keys: int = 3_000
    samples: int = 10_000
    settle: float = 0.15
    apart: bool = True


FULL = Size()
TINY = Size(
    rounds=2, restarts=1, calls=2, records=10, bodies=(1,), waiters=2, crowd=4, wakes=1,
    live=(10, 20), held=(1, 2), seconds=0.05, loads=1, fields=2_000, file=1_000, uploads=1,
    starts=1, databases=("SQLite",), row_rounds=2, row_restarts=1, primaries=(1,), keys=3,
    samples=50, settle=0.01, apart=False,
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """One run.

    :param server: an empty server for records.
    :param binary: the program that it runs.
    :param size: how much is measured.
    :param peer: the library to compare with.
    """

    server: Server
    binary: str
    size: Size
    peer: str

    def runners(self, *names: str) -> AbstractContextManager[dict[str, Runner]]:
        """Start contestants whose records live on the server."""
        return runners(self.server.url, *names, apart=self.size.apart)


@dataclass(frozen=True)
class Target:
    """A limit that a figure must keep.

    :param name: what the figure says.
    :param value: the figure that was measured.
    :param limit: what the figure must not be above, or below where ``is_minimum``.
    :param unit: the unit of both.
    :param aim: a figure that would be better still.
    :param is_minimum: whether more is better.
    """

    name: str
    value: float
    limit: float
    unit: str = "×"
    aim: float | None = None
    is_minimum: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.is_minimum else self.value <= self.limit


@dataclass(frozen=True)
class Findings:
    """The figures of one measure.

    :param title: what was measured.
    :param series: the figures.
    :param targets: the limits that they must keep.
    :param notes: what is not measured, and why.
    """

    title: str
    series: list[Series]
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Series:
        return next(series for series in self.series if series.name == name)
