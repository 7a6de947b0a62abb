"""Failovers of a primary that Sentinels watch, while clients retry.

Replication is asynchronous: what the former primary had not passed on, and what it was still sent
before the workers left it, may run again. Everything else runs once; with ``min_replicas`` as high
as the number of replicas everything does.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from flask_idempotent import _timing
from tests.chaos.clients import Request, RetryingClients
from tests.chaos.conftest import BINARIES
from tests.chaos.failovers import LAG, lost_keys, refused_in_time
from tests.chaos.history import History
from tests.chaos.notes import gate_of
from tests.chaos.pauses import in_time
from tests.chaos.promises import all_answered, one_answer, stored
from tests.chaos.services import DEAD_WITHIN, CountingView, Service, timed
from tests.chaos.serving import FULL, Row, serve, sized
from tests.chaos.storms import Storm
from tests.chaos.test_leaving import conclude
from tests.support.polling import until
from tests.support.redis_servers import Server
from tests.support.sentinel_sets import SentinelSet

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

#: Seconds of silence after which the Sentinels take a primary for dead.
DOWN_AFTER = 1.5
#: Seconds after a failover within which every worker has left the former primary.
LEFT_WITHIN = _timing.SENTINEL_EVERY + 0.5


@pytest.fixture(scope="module", params=BINARIES if FULL else ["valkey"])
def one_set(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SentinelSet]:
    binary, folder = BINARIES[request.param](), tmp_path_factory.mktemp("sentinels")
    with SentinelSet(binary, folder, down_after=round(DOWN_AFTER * 1000)) as sentinels:
        yield sentinels


@pytest.fixture
def sentinels(one_set: SentinelSet) -> SentinelSet:
    one_set.restore()
    return one_set


class Failover:
    """A failover, and when it happened.

    :param sentinels: have a primary and two replicas.
    """

    def __init__(self, sentinels: SentinelSet) -> None:
        self._sentinels = sentinels
        self._former = sentinels.primary
        self.since = time.monotonic()
        #: When all Sentinels named another primary.
        self.until = float("inf")

    def wait(self) -> None:
        self._sentinels.until_moved(self._former)
        self.until = time.monotonic()

    def kill(self) -> None:
        """Kill the primary; it comes back as a replica."""
        self._former.kill()
        self.wait()
        self._sentinels.restart(self._former)

    def order(self) -> None:
        """Have a replica promoted while the primary works."""
        self._sentinels.fail_over()
        self.wait()

    def freeze(self) -> None:
        """Stop the primary until it is replaced: then it goes on as if nothing had happened."""
        self._former.signal(signal.SIGSTOP)
        self.wait()
        self._former.signal(signal.SIGCONT)

    def over(self) -> None:
        """Wait until the former primary is a replica."""
        until(self._is_over, 30, every=0.02)
        self._sentinels.until_whole()

    def _is_over(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self._former.client.info("replication")["role"] == "slave")
        return False

    def may_lose(self, since: float, to: float) -> bool:
        """Whether something that lasted for this time may be lost."""
        return since <= self.until + LEFT_WITHIN and to >= self.since - LAG


KINDS: dict[str, Callable[[Failover], None]] = {
    "primary killed": Failover.kill,
    "SENTINEL FAILOVER": Failover.order,
    "primary stopped until it was replaced": Failover.freeze,
}


@pytest.mark.parametrize("kind", KINDS if FULL else ["primary killed"])
@pytest.mark.parametrize("min_replicas", [0, 2] if FULL else [2])
def test_failover(sentinels: SentinelSet, tmp_path: Path, min_replicas: int, kind: str) -> None:
    """A failover: 503 in time meanwhile, service soon after it, no key stuck, one run for each key
    whose record was not lost, and with replicas that confirm for each key.
    """
    failovers: list[Failover] = []
    row = Row(f"{kind}, min_replicas={min_replicas}")
    config = {"IDEMPOTENT_LEASE": 10, "IDEMPOTENT_MIN_REPLICAS": min_replicas}
    # So many threads that waiting requests never occupy all.
    with serve(tmp_path, sentinels.url, workers=2, threads=20, **config) as served:
        storm = Storm(served, sized(16, 6), KINDS[kind].__name__)

        def happens() -> None:
            for _ in range(sized(5, 1)):
                answered = len(storm.clients.answers)
                until(lambda: len(storm.clients.answers) > answered + 20, 30)  # noqa: B023
                failovers.append(Failover(sentinels))
                KINDS[kind](failovers[-1])
                if min_replicas:
                    # Only now there are as many replicas as must confirm.
                    failovers[-1].over()
                since = time.monotonic()
                storm.send(Request(f"new-{len(failovers)}", "/work/0"))
                to = time.monotonic()
                row.require(
                    in_time(since, to, 2),
                    f"a new key was served {to - since:.3f} s after a failover",
                )
                failovers[-1].over()

        storm.during(happens, lambda dice: f"/work/{dice.randint(10, 200)}")
        history = History(tmp_path, 10)
        answers = storm.clients.answers + storm.later
        row.requests, row.runs = storm.clients.sent + len(storm.later), history.count
        row.kills, row.faults = len(failovers), storm.clients.faults.total()
        all_answered(row, answers, storm.unanswered)
        lost = lost_keys(row, history, failovers)
        row.require(not (min_replicas and lost), f"with min_replicas {len(lost)} keys ran again")
        one_answer(row, history, [answer for answer in answers if answer.key not in lost])
        refused_in_time(row, history)
        stored(row, sentinels.url, storm.keys)
        print(f"{row.test}: {len(lost)} of {len(storm.keys)} keys were lost and ran again")
        row.conclude()
    assert failovers


def test_worker_leaves_meanwhile(sentinels: SentinelSet, tmp_path: Path) -> None:
    """A worker that leaves during a failover stores its response on the promoted server."""
    request = Request("leaving", "/gated")
    with serve(tmp_path, sentinels.url, workers=1, IDEMPOTENT_LINGER=20) as served:
        (worker,) = served.workers()
        with RetryingClients(served.port, 1, iter([request])) as clients:
            until(lambda: History(tmp_path).count == 1)
            failover = Failover(sentinels)
            sentinels.primary.kill()
            gate_of(tmp_path, request.key).touch()
        until(lambda: History(tmp_path).named("store_failed"))
        served.strike(worker, signal.SIGTERM)
        failover.wait()
        row = Row("SIGTERM during a failover", kills=1)
        conclude(row, served, clients, request, sentinels.url)
        assert "is lost" not in served.output()


@pytest.mark.parametrize(
    ("min_replicas", "cut_off", "runs"),
    [(1, 2, 1), (1, 1, 1), (0, 2, 2)] if FULL else [(1, 2, 1)],
)
def test_replicas_that_are_cut_off(
    sentinels: SentinelSet,
    make_service: Callable[..., Service],
    min_replicas: int,
    cut_off: int,
    runs: int,
) -> None:
    """With min_replicas a claim that no replica has does not run, and one that a replica has runs
    once, in spite of a failover to it. Without, a claim that none has runs again.
    """
    view = CountingView()
    service = make_service(sentinels.url, view, min_replicas=min_replicas)
    primary, replicas = sentinels.primary, sentinels.replicas[:cut_off]
    for replica in replicas:
        replica.signal(signal.SIGSTOP)
    # Else the system would keep for them what they are sent. The others connect again.
    primary.client.client_kill_filter(_type="replica")
    until(lambda: primary.client.info("replication")["connected_slaves"] == 2 - cut_off)
    answer = timed(service)
    none_has_it = bool(min_replicas) and cut_off == 2
    assert (answer.status, answer.within(DEAD_WITHIN)) == (503 if none_has_it else 200, True)
    primary.kill()
    if cut_off == 2:
        resume(replicas)
    sentinels.until_moved(primary)
    resume(replicas)
    until(lambda: service.send()[0] == 200, 20, every=0.1)
    assert service.send()[0] == 200
    assert view.count == runs


def resume(replicas: list[Server]) -> None:
    for replica in replicas:
        replica.signal(signal.SIGCONT)
