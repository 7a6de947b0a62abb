"""What several servers cost a request: replicas that confirm it, and the nodes of a cluster."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.benchmarks.bench import Bench, Findings, Target
from tests.benchmarks.commands import monitored, send
from tests.benchmarks.contestants import CONFIRMED, OURS, fresh_key
from tests.benchmarks.cost import time_in_turns
from tests.benchmarks.pinning import pin
from tests.benchmarks.runners import Runner, runners
from tests.benchmarks.series import Series
from tests.support.redis_fleets import Cluster
from tests.support.replicated_servers import ReplicatedServer

#: What is sent in the background, at most once a second, to learn which node has which slots.
_MAP = "CLUSTER"
_CALLED = {"first": "first request", "replay": "replay"}
_KINDS = tuple(_CALLED)
#: The commands that a request of each kind may send, whatever the number of nodes.
_LIMITS = {"first": 2, "replay": 1}


@contextmanager
def _replicated(bench: Bench) -> Iterator[ReplicatedServer]:
    with tempfile.TemporaryDirectory() as folder:
        servers = ReplicatedServer(bench.binary, Path(folder))
        try:
            servers.start()
            pin(servers.primary.client.info("server")["process_id"])
            yield servers
        finally:
            servers.stop()


def confirmation(bench: Bench) -> Findings:
    """Time requests to a primary with a replica, which confirms what is written or does not."""
    findings = Findings("min_replicas, on a primary with one replica", [])
    with _replicated(bench) as servers:
        start = partial(runners, servers.url, OURS, CONFIRMED, apart=bench.size.apart)
        times = time_in_turns(bench.size, start, _KINDS)
    for (kind, name), values in times.items():
        label = CONFIRMED if name == CONFIRMED else "min_replicas=0"
        findings.series.append(Series(f"{kind}: {label}", "µs", values))
    return findings


@contextmanager
def _cluster(bench: Bench, primaries: int) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(bench.binary, Path(folder), primaries=primaries, with_replicas=False)
        try:
            yield cluster.start()
        finally:
            cluster.stop()


def nodes(bench: Bench) -> Findings:
    """Count the commands of a request on each node, in clusters of several sizes."""
    findings = Findings("Commands in a cluster", [])
    for primaries in bench.size.primaries:
        name = f"{primaries} {'primary' if primaries == 1 else 'primaries'}"
        with (
            _cluster(bench, primaries) as cluster,
            runners(cluster.url, OURS, apart=bench.size.apart) as made,
        ):
            keys = [fresh_key() for _ in range(bench.size.keys)]
            for kind in _KINDS:
                counts = _counts(made[OURS], cluster, keys)
                each = sum(counts) / len(keys)
                busiest = 100 * max(counts) / sum(counts)
                findings.series.extend(
                    [
                        Series(f"{name}, commands of a {_CALLED[kind]}", "", (each,)),
                        Series(
                            f"{name}, the busiest node's share of them, {kind}", "%", (busiest,)
                        ),
                    ]
                )
                target = f"{name}: commands of a {_CALLED[kind]}"
                findings.targets.append(Target(target, each, _LIMITS[kind], ""))
    return findings


def _counts(runner: Runner, cluster: Cluster, keys: list[str]) -> list[int]:
    """The number of commands that each node got."""
    with ExitStack() as stack:
        sent: list[Counter[str]] = [stack.enter_context(monitored(n)) for n in cluster.nodes]
        runner.run(send, *keys)
    return [counter.total() - counter[_MAP] for counter in sent]
