"""What a request costs: without a key, the first with a key, and a replay."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from tests.benchmarks.bench import Bench, Findings, Target
from tests.benchmarks.contestants import BARE, DECORATED, KINDS, OURS, Contestant, environs
from tests.benchmarks.series import Series, in_turns, median_time


def _time(contestant: Contestant, kind: str, calls: int) -> float:
    requests = environs(kind, calls + 1)
    contestant.answer(requests.pop())
    return median_time(contestant.answer, requests)


def measure(bench: Bench) -> Findings:
    """Each kind of request of each contestant."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(bench.size.anew):
        for name, values in _once(bench).items():
            found[name] += values
    series = {name: Series(name, "µs", tuple(values)) for name, values in found.items()}
    return Findings("Cost of a request", list(series.values()), _targets(series, bench.peer))


def _once(bench: Bench) -> dict[str, list[float]]:
    size = bench.size
    with bench.lanes(BARE, OURS, DECORATED, bench.peer) as made:
        turns = {
            f"{name}, {kind}": partial(lane.run, _time, kind, size.calls)
            for name, lane in made.items()
            for kind in (KINDS if name != BARE else KINDS[:1])
        }
        return in_turns(turns, size.rounds // size.anew)


def _targets(series: dict[str, Series], peer: str) -> list[Target]:
    bare = series[f"{BARE}, no key"]
    targets = [
        Target(
            f"{name}, no key: time over bare Flask's", series[f"{name}, no key"].over(bare), 1.03
        )
        for name in (OURS, DECORATED)
    ]
    for name in (OURS, DECORATED):
        first = series[f"{name}, first"].minus(bare).over(series[f"{peer}, first"].minus(bare))
        targets.append(
            Target(f"{name}, first: cost beyond bare, over {peer}'s", first, 0.5, aim=0.3)
        )
        replay = series[f"{name}, replay"].over(series[f"{peer}, replay"])
        targets.append(Target(f"{name}, replay: time over {peer}'s", replay, 0.6, aim=0.45))
    return targets
