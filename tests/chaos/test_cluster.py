"""A cluster whose nodes fail and move while clients retry.

Replication is asynchronous: what a killed primary had not passed on may run again. Everything else
runs once, and the keys of the other primaries are served all the time.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis.crc import key_slot

from flask_idempotent import _timing
from flask_idempotent.http.keys import storage_key
from tests.chaos.clients import Request, send_all
from tests.chaos.conftest import BINARIES
from tests.chaos.failovers import LAG, lost_keys, refused_in_time, served_soon
from tests.chaos.history import History
from tests.chaos.promises import all_answered, one_answer, ran_once, stored
from tests.chaos.serving import FULL, Row, ServedApp, serve, sized
from tests.chaos.storms import Storm
from tests.support.polling import until
from tests.support.redis_fleets import Cluster, ClusterNode
from tests.support.redis_servers import free_port

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

#: Seconds after which the nodes believe that one is dead.
NODE_TIMEOUT = 1.0
#: A waiter polls this often; with a little for the machine.
POLLED_WITHIN = 1.5


@pytest.fixture(scope="module", params=BINARIES if FULL else ["valkey"])
def nodes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Nodes that keep their records when they are killed and start again."""
    folder = tmp_path_factory.mktemp("nodes")
    cluster = Cluster(BINARIES[request.param](), folder, "--appendonly", "yes")
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture
def cluster(nodes: Cluster) -> Cluster:
    """The nodes, all of them alive and empty, and patient with one that is silent."""
    nodes.watch_closely(60)
    nodes.until_whole()
    nodes.flush()
    return nodes


def record_of(key: str) -> str:
    return storage_key("IDEMPOTENT_", "chaos", None, key)


class Outage:
    """A primary that fails, and when its replica had taken over.

    :param cluster: the nodes.
    :param primary: the one that fails now.
    """

    def __init__(self, cluster: Cluster, primary: ClusterNode) -> None:
        self._primary = primary
        self._replica = cluster.replica_of(primary)
        self._slots = primary.slots()
        self.since = time.monotonic()
        self.until = float("inf")

    def wait(self) -> None:
        until(lambda: self._replica.is_primary and self._replica.slots(), 30)
        self.until = time.monotonic()

    def has(self, key: str) -> bool:
        """Whether a key is one of those that the primary had."""
        slot = key_slot(record_of(key).encode())
        return any(first <= slot <= last for first, last in self._slots)

    def may_lose(self, since: float, to: float) -> bool:
        return since <= self.until and to >= self.since - LAG


def killed(primary: ClusterNode, outage: Outage) -> None:
    primary.kill()
    outage.wait()
    primary.start()


def stopped(primary: ClusterNode, outage: Outage) -> None:
    """It goes on where it was once it is replaced."""
    primary.signal(signal.SIGSTOP)
    outage.wait()
    threading.Event().wait(1)
    primary.signal(signal.SIGCONT)


@pytest.mark.parametrize("fail", [killed, stopped] if FULL else [killed])
def test_primary_fails(
    cluster: Cluster, tmp_path: Path, fail: Callable[[ClusterNode, Outage], None]
) -> None:
    """A primary fails: 503 in time for its keys and service soon, and none for all others."""
    outages: list[Outage] = []
    cluster.watch_closely(NODE_TIMEOUT)
    with serve(tmp_path, cluster.url, workers=2, IDEMPOTENT_LEASE=10) as served:
        storm = Storm(served, sized(16, 8), fail.__name__)

        def happens() -> None:
            for _ in range(sized(4, 1)):
                answered = len(storm.clients.answers)
                until(lambda: len(storm.clients.answers) > answered + 20, 30)  # noqa: B023
                until(lambda: all_have_answered(served), 30)
                primary = cluster.primaries()[0]
                outages.append(Outage(cluster, primary))
                fail(primary, outages[-1])
                cluster.until_whole(30)

        storm.during(happens, lambda dice: f"/work/{dice.randint(10, 200)}")
        history = History(tmp_path, 10)
        answers = storm.clients.answers + storm.later
        row = Row(
            f"cluster: primary {fail.__name__}",
            storm.clients.sent + len(storm.later),
            history.count,
            len(outages),
            storm.clients.faults.total(),
        )
        all_answered(row, answers, storm.unanswered)
        lost = lost_keys(row, history, outages)
        one_answer(row, history, [answer for answer in answers if answer.key not in lost])
        refused_in_time(row, history)
        for outage in outages:
            keys = set(filter(outage.has, history.runs))
            served_soon(row, history, outage.until, keys)
        others_are_served(row, history, outages)
        stored(row, cluster.url, storm.keys)
        print(f"{len(lost)} of {len(storm.keys)} keys were lost and ran again")
        row.conclude()


def all_have_answered(served: ServedApp) -> bool:
    """Whether each worker has found the nodes of some keys.

    On a busy machine its first request may get 503 instead, whatever node has its key.
    """
    answers = History(served.folder).named("answer")
    return {line["pid"] for line in answers if line["status"] == 201} >= set(served.workers())


def others_are_served(row: Row, history: History, outages: list[Outage]) -> None:
    """No key of another primary got a 503, and some were answered while one had failed."""
    answers = history.named("answer")
    for outage in outages:
        during = [line for line in answers if outage.since <= line["time"] <= outage.until]
        others = [line["status"] for line in during if not outage.has(line["key"])]
        row.require(201 in others, "no key of another primary was answered meanwhile")
    for line in answers:
        if line["status"] == 503:
            excused = any(outage.has(line["key"]) for outage in outages)
            asked = history_asked(history, line["request"])
            excused |= history.paused(line["pid"], asked, line["time"]) > _timing.MOVE_WITHIN / 2
            row.require(excused, f"{line['key']}, of another primary, got 503")


def test_slots_move(cluster: Cluster, tmp_path: Path) -> None:
    """Slots migrate while requests run and wait on them: each runs once, and no waiter is late."""
    dead_seed = f"redis+cluster://127.0.0.1:{free_port()},{cluster.url.partition('://')[2]}"
    keys = [f"moving-{number}" for number in range(sized(60, 6))]
    requests = [Request(key, "/work/400") for key in keys for _ in range(4)]
    with serve(tmp_path, dead_seed, workers=2, threads=12, IDEMPOTENT_LEASE=10) as served:
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send_all, served.port, 24, requests)
            moved = 0
            while not sending.done():
                for run in History(tmp_path).running:
                    move_elsewhere(cluster, record_of(run.key))
                    moved += 1
            clients = sending.result()
        history = History(tmp_path, 10)
        row = Row("cluster: slots migrate", clients.sent, history.count, moved)
        row.faults = clients.faults.total()
        all_answered(row, clients.answers, clients.unanswered)
        ran_once(row, history, keys)
        one_answer(row, history, clients.answers)
        waiters_are_woken(row, history)
        stored(row, cluster.url, keys)
        row.conclude()
    assert moved


def move_elsewhere(cluster: Cluster, record: str) -> None:
    source = cluster.node_of(record)
    target = next(node for node in cluster.primaries() if node is not source)
    cluster.move_slot(key_slot(record.encode()), target)


def waiters_are_woken(row: Row, history: History) -> None:
    """Every request that waited was answered soon after the run ended."""
    for line in history.named("answer"):
        for run in history.runs[line["key"]]:
            late = line["time"] - max(run.end, history_asked(history, line["request"]))
            late -= history.paused(line["pid"], run.end, line["time"])
            row.slowest = max(row.slowest, late)
            row.require(late < POLLED_WITHIN, f"{run.key}: a waiter was answered {late:.3f} s late")


def history_asked(history: History, request: str) -> float:
    return next(line["time"] for line in history.named("ask") if line["request"] == request)


def test_nodes_come_back(cluster: Cluster, tmp_path: Path) -> None:
    """A node starts again on another port, another loses its scripts: each key runs once."""
    with serve(tmp_path, cluster.url, workers=2, IDEMPOTENT_LEASE=10) as served:
        storm = Storm(served, sized(16, 8), "back")

        def happens() -> None:
            for _ in range(sized(4, 1)):
                answered = len(storm.clients.answers)
                until(lambda: len(storm.clients.answers) > answered + 10, 30)  # noqa: B023
                first, second, _ = cluster.primaries()
                first.client.script_flush()
                second.kill()
                second.start_elsewhere()
                cluster.until_whole(30)

        storm.during(happens, lambda dice: f"/work/{dice.randint(10, 200)}")
        history = History(tmp_path, 10)
        row = storm.row("cluster: node on another port", history, sized(4, 1))
        ran_once(row, history, storm.keys)
        refused_in_time(row, history)
        stored(row, cluster.url, storm.keys)
        row.conclude()
