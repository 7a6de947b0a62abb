"""What several servers cost: ``python -m tests.benchmarks.several_servers``.

It starts clusters of one, two and three primaries and a primary with a replica, on this machine,
and prints the table of the page "Beyond one server".
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from flask import Flask

from flask_idempotent import Idempotent
from flask_idempotent.web.state import state_of
from tests.support.polling import until
from tests.support.redis_fleets import SLOTS, ClusterNode
from tests.support.redis_servers import Server, valkey_binary
from tests.support.replicated_servers import ReplicatedServer

BODY = b'{"order": "' + b"x" * 287 + b'"}'


class Size(NamedTuple):
    """How much is measured.

    :param primaries: the numbers of primaries of the clusters.
    :param requests: how many first requests each measure sends.
    """

    primaries: tuple[int, ...] = (1, 2, 3)
    requests: int = 5000


@contextmanager
def cluster(primaries: int, folder: Path) -> Iterator[list[ClusterNode]]:
    """Start a cluster of primaries without replicas."""
    nodes = [ClusterNode(valkey_binary(), folder / f"{primaries}-{n}") for n in range(primaries)]
    try:
        for number, node in enumerate(nodes):
            node.start()
            first, last = SLOTS * number // primaries, SLOTS * (number + 1) // primaries - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                node.ask("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus_port)
        until(lambda: all(node.cluster_info["cluster_slots_ok"] == str(SLOTS) for node in nodes))
        until(lambda: all(node.cluster_info["cluster_state"] == "ok" for node in nodes))
        yield nodes
    finally:
        for node in nodes:
            node.stop()


@contextmanager
def application(url: str, min_replicas: int = 0) -> Iterator[Flask]:
    """An application whose view answers with 300 bytes of JSON."""
    app = Flask("several servers")
    app.config["REDIS_URL"] = url
    Idempotent(app, min_replicas=min_replicas, expire=3600)
    app.add_url_rule("/orders", "orders", lambda: BODY, methods=["POST"])
    yield app
    state_of(app).engine.close()


def send(app: Flask, key: str) -> float:
    """Send a request; how many seconds it took."""
    client, headers = app.test_client(), {"Idempotency-Key": key}
    began = time.perf_counter()
    response = client.post("/orders", headers=headers, data=b"{}")
    seconds = time.perf_counter() - began
    assert response.status_code == 200, response.data
    return seconds


def per_node(primaries: int, requests: int, folder: Path) -> str:
    """Count the commands of first requests at each node of a cluster."""
    with cluster(primaries, folder) as nodes:
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        with application(url) as app:
            for number in range(primaries * 8):
                send(app, f"warm-{number}")
            for node in nodes:
                node.reset_counts()
            for number in range(requests):
                send(app, f"key-{number}")
            counts = [_sent(node.counts()) for node in nodes]
    shares = ", ".join(map(str, counts))
    return (
        f"primaries: {primaries}   commands for a first request: {sum(counts) / requests:.2f}   "
        f"at each node: {shares}"
    )


def _sent(counts: dict[str, int]) -> int:
    """How many commands were sent for records: claims, and scripts, each of which calls SET too."""
    scripts = counts.get("evalsha", 0) + counts.get("eval", 0)
    claims = counts.get("set", 0) - scripts
    return claims + scripts


def confirmed(requests: int, folder: Path) -> Iterator[str]:
    """Time first requests and replays without ``min_replicas`` and with it, in turns."""
    servers = ReplicatedServer(valkey_binary(), folder).start()
    try:
        with application(servers.url) as plain, application(servers.url, 1) as waiting:
            apps = {"min_replicas=0": plain, "min_replicas=1": waiting}
            times: dict[tuple[str, str], list[float]] = {}
            for number in range(requests // 2):
                for name, app in apps.items():
                    for kind in ("first", "replay"):
                        seconds = send(app, f"{name}-{number}")
                        times.setdefault((name, kind), []).append(seconds)
        for name in apps:
            first, replay = (statistics.median(times[name, kind]) for kind in ("first", "replay"))
            yield f"{name}   first: {first * 1e6:.0f} us   replay: {replay * 1e6:.0f} us"
    finally:
        servers.stop()


def memory(requests: int, folder: Path) -> str:
    """Measure how much a server's memory grows by a record."""
    server = Server(valkey_binary(), folder).start()
    try:
        with application(server.url) as app:
            send(app, "warm")
            before = int(server.client.info("memory")["used_memory"])
            for number in range(requests):
                send(app, f"key-{number}")
            after = int(server.client.info("memory")["used_memory"])
    finally:
        server.stop()
    return f"bytes for a record: {(after - before) / requests:.0f}"


def measure(size: Size) -> Iterator[str]:
    """Yield the lines of the report."""
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, part) for part in ("clusters", "replicated", "single")]
        for folder in folders:
            folder.mkdir()
        for primaries in size.primaries:
            yield per_node(primaries, size.requests, folders[0])
        yield from confirmed(size.requests, folders[1])
        # A server's tables grow by doubling.
        yield memory(3 * size.requests, folders[2])


if __name__ == "__main__":
    for line in measure(Size()):
        print(line)
        sys.stdout.flush()
