"""Series: one value for each round, their median and their ratios.

Contestants take turns within each round, so that whatever else the machine does affects all of them
alike. Ratios are taken round by round, and then their median.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True)
class Series:
    """The values of one figure.

    :param name: what was measured.
    :param unit: the unit of its values, such as ``µs``.
    :param values: one for each round.
    """

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile: half of the rounds lie between them."""
        if len(self.values) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def minus(self, other: Series) -> Series:
        """How much more this is, round by round."""
        return Series(self.name, self.unit, self._with(other, lambda mine, theirs: mine - theirs))

    def over(self, other: Series) -> float:
        """How many times the other this is: the median over the rounds."""
        return statistics.median(self._with(other, lambda mine, theirs: mine / theirs))

    def _with(self, other: Series, how: Callable[[float, float], float]) -> tuple[float, ...]:
        pairs = zip(self.values, other.values, strict=True)
        return tuple(how(mine, theirs) for mine, theirs in pairs)


def in_turns(turns: Mapping[K, Callable[[], T]], rounds: int) -> dict[K, list[T]]:
    """Let each take one measure in each round; the first of a round is the last of the next."""
    measured: dict[K, list[T]] = {name: [] for name in turns}
    names = list(turns)
    for _ in range(rounds):
        for name in names:
            measured[name].append(turns[name]())
        names = [*names[1:], names[0]]
    return measured


def median_time(act: Callable[[T], object], inputs: Iterable[T]) -> float:
    """The median of the microseconds that a call takes; its inputs are made before the first."""
    prepared = list(inputs)
    times = []
    for one in prepared:
        began = time.perf_counter_ns()
        act(one)
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / 1000
