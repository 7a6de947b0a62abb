"""What a request costs: without a key, the first with a key, and a replay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial

from tests.benchmarks.bench import Bench, Findings, Size, Target
from tests.benchmarks.contestants import BARE, DECORATED, KINDS, OURS, Contestant, environs
from tests.benchmarks.runners import Runner
from tests.benchmarks.series import Series, in_turns, median_time


def time_requests(contestant: Contestant, kind: str, calls: int) -> float:
    """The median of the microseconds that a request of a kind takes."""
    requests = environs(kind, calls + 1)
    contestant.answer(requests.pop())
    return median_time(contestant.answer, requests)


def time_in_turns(
    size: Size, start: Callable[[], AbstractContextManager[dict[str, Runner]]], kinds: Iterable[str]
) -> dict[tuple[str, str], tuple[float, ...]]:
    """Time each kind of request to contestants that take turns, with ``row_rounds`` turns each.

    :param start: starts the contestants; it is called ``row_restarts`` times.
    :returns: the times in microseconds, by kind and contestant.
    """
    times: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(size.row_restarts):
        with start() as made:
            turns = {
                (kind, name): partial(runner.run, time_requests, kind, size.calls)
                for kind in kinds
                for name, runner in made.items()
            }
            for turn, values in in_turns(turns, size.row_rounds // size.row_restarts).items():
                times[turn] += values
    return {turn: tuple(values) for turn, values in times.items()}


def _time_beside(contestant: Contestant, calls: int) -> float:
    return time_requests(contestant.beside, KINDS[0], calls)


def _beside(name: str) -> str:
    return f"{BARE} beside {name}"


#: The values of one contestant in each round, by its name.
Rounds = dict[str, list[float]]


def measure(bench: Bench) -> Findings:
    """Time each kind of request to each contestant; bare Flask's without a key, for comparison."""
    measured: dict[str, Rounds] = {kind: defaultdict(list) for kind in KINDS}
    for _ in range(bench.size.restarts):
        with bench.runners(BARE, OURS, DECORATED, bench.peer) as made:
            for kind, rounds in measured.items():
                for name, values in _in_turns(made, kind, bench.size).items():
                    rounds[name] += values
    series = {
        kind: {name: Series(f"{name}, {kind}", "µs", tuple(v)) for name, v in rounds.items()}
        for kind, rounds in measured.items()
    }
    shown = [one for kind in KINDS for name, one in series[kind].items() if _is_shown(name, kind)]
    return Findings("Cost of a request", shown, list(_targets(series, bench.peer)))


def _in_turns(made: Mapping[str, Runner], kind: str, size: Size) -> Rounds:
    # What is compared is measured within the same second: the pace of a machine changes.
    turns = {}
    for name, runner in made.items():
        served = kind if _is_shown(name, kind) else KINDS[0]
        turns[name] = partial(runner.run, time_requests, served, size.calls)
        if kind == KINDS[0] and name in (OURS, DECORATED):
            turns[_beside(name)] = partial(runner.run, _time_beside, size.calls)
    return in_turns(turns, size.rounds // size.restarts)


def _is_shown(name: str, kind: str) -> bool:
    return name != BARE or kind == KINDS[0]


def _targets(series: Mapping[str, Mapping[str, Series]], peer: str) -> Iterator[Target]:
    no_key, first, replay = (series[kind] for kind in KINDS)
    for name in (OURS, DECORATED):
        over = no_key[name].over(no_key[_beside(name)])
        yield Target(f"{name}, no key: time over bare Flask's", over, 1.03)
    for name in (OURS, DECORATED):
        bare = first[BARE]
        beyond = first[name].minus(bare).over(first[peer].minus(bare))
        yield Target(f"{name}, first: cost beyond bare, over {peer}'s", beyond, 0.35, aim=0.3)
        over = replay[name].over(replay[peer])
        yield Target(f"{name}, replay: time over {peer}'s", over, 0.64, aim=0.45)
