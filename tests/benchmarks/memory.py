"""How much of the server's memory a record takes, its key included."""

from __future__ import annotations

import statistics

from tests.benchmarks.bench import Bench, Findings, Target
from tests.benchmarks.contestants import BODY_SIZE, OURS, Contestant, environ, fresh_key
from tests.benchmarks.series import Series
from tests.servers import Server

_BATCH = 1_000
_RECORD = "memory of a record, its key included"
#: What a record may take beside the body that it keeps.
_BESIDE = 250


def _store(contestant: Contestant, records: int) -> None:
    for _ in range(records):
        contestant.answer(environ(fresh_key()))


def _usage(server: Server) -> float:
    """Octets of one key and its record, as MEMORY USAGE says: the mean over all keys."""
    keys = list(server.client.scan_iter(count=_BATCH))
    sizes: list[int] = []
    for start in range(0, len(keys), _BATCH):
        pipeline = server.client.pipeline(transaction=False)
        for key in keys[start : start + _BATCH]:
            pipeline.memory_usage(key, samples=0)
        sizes += pipeline.execute()
    return statistics.mean(sizes)


def measure(bench: Bench) -> Findings:
    """The records of first requests."""
    series = []
    with bench.lanes(OURS, bench.peer) as made:
        for name, lane in made.items():
            bench.server.client.flushall()
            # The mean of the peer's is known sooner.
            lane.run(_store, bench.size.records // (1 if name == OURS else 10) or 1)
            series.append(Series(f"{name}, {_RECORD}", "bytes", (_usage(bench.server),)))
    bench.server.client.flushall()
    findings = Findings(f"Memory of a record with a body of {BODY_SIZE} bytes", series)
    value = findings[f"{OURS}, {_RECORD}"].median
    findings.targets.append(Target(_RECORD, value, BODY_SIZE + _BESIDE, "bytes"))
    return findings
