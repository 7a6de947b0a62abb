"""What every measure is given, and what it finds."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tests.benchmarks.lanes import Lane, lanes
from tests.benchmarks.series import Series
from tests.support.redis_servers import Server


@dataclass(frozen=True)
class Size:
    """How much is measured.

    :param rounds: how often everyone has a turn.
    :param anew: how often everyone is started for these: where the code and data of a process
        happen to lie makes a difference of some per cent, which is nobody's merit.
    :param calls: requests in one turn.
    :param records: how many records the memory is measured over.
    :param bodies: KiB of the bodies whose compression is measured.
    :param waiters: how many requests wait in a small group.
    :param crowd: how many wait in a large one.
    :param wakes: how often a small group is woken; a large one a seventh as often.
    :param live: how many records a server holds, in turn.
    :param held: how many claims a process holds, in turn.
    :param seconds: how long a server is under load in one turn.
    :param loads: how many turns it has.
    :param fields: bytes of a large form that has nothing but short fields.
    :param file: bytes of the file in a large multipart form.
    :param uploads: how often each of them is uploaded.
    :param starts: how often a process is started.
    :param samples: requests of each kind under the profiler.
    :param settle: seconds that waiters are given to fall asleep after their last look.
    :param apart: whether each contestant has a process of its own.
    """

    rounds: int = 84
    anew: int = 6
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
    samples: int = 10_000
    settle: float = 0.15
    apart: bool = True


FULL = Size()
TINY = Size(
    rounds=2, anew=1, calls=2, records=10, bodies=(1,), waiters=2, crowd=4, wakes=1, live=(10, 20),
    held=(1, 2), seconds=0.05, loads=1, fields=2_000, file=1_000, uploads=1, starts=1, samples=50,
    settle=0.01, apart=False,
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

    def lanes(self, *names: str) -> AbstractContextManager[dict[str, Lane]]:
        """Start contestants whose records live on the server."""
        return lanes(self.server.url, *names, apart=self.size.apart)


@dataclass(frozen=True)
class Target:
    """What must be true of a figure.

    :param name: what is measured.
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
    """What one measure found.

    :param title: what was measured.
    :param series: the figures.
    :param targets: what must be true of them.
    """

    title: str
    series: list[Series]
    targets: list[Target] = field(default_factory=list)

    def __getitem__(self, name: str) -> Series:
        return next(series for series in self.series if series.name == name)
