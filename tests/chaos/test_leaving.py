"""A worker that leaves in good order with a response that the store has not taken."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.chaos.harness import Row, Site, site
from tests.chaos.swarm import Job, Swarm, ask
from tests.chaos.truth import Truth, all_answered, one_answer, ran_once, stored
from tests.support.polling import until
from tests.support.proxy import Fault, Proxy
from tests.support.redis_servers import Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]


class Trouble(NamedTuple):
    """What is wrong with the store."""

    name: str
    begin: Callable[[], object]
    end: Callable[[], object]


@pytest.fixture(params=["refuses writes", "is cut off"])
def trouble(
    request: pytest.FixtureRequest, clean_valkey: Server, proxy: Proxy
) -> Iterator[Trouble]:
    def cut() -> None:
        proxy.faults.append(Fault(b"EVAL", "cut before", times=1_000_000))
        proxy.cut_all()

    def limit(size: int) -> Callable[[], object]:
        return lambda: clean_valkey.client.config_set("maxmemory", size)

    if request.param == "is cut off":
        yield Trouble(request.param, cut, proxy.faults.clear)
    else:
        yield Trouble(request.param, limit(1), limit(0))
        limit(0)()


def test_response_not_yet_stored(
    clean_valkey: Server, proxy: Proxy, trouble: Trouble, tmp_path: Path
) -> None:
    """A response that the store did not take is stored when the worker leaves, if not before."""
    job = Job("leaving", "/work/700")
    with site(tmp_path, proxy.url, workers=1) as served:
        (worker,) = served.workers()
        with Swarm(served.port, 1, iter([job])) as swarm:
            until(lambda: Truth(tmp_path).count == 1)
            trouble.begin()
        until(lambda: Truth(tmp_path).named("store_failed"))
        assert not Truth(tmp_path).named("completed")
        trouble.end()
        served.strike(worker, signal.SIGTERM)
        row = Row(f"SIGTERM after the store {trouble.name}", kills=1)
        conclude(row, served, swarm, job, clean_valkey.url)


def test_store_comes_back_while_the_worker_lingers(
    clean_valkey: Server, proxy: Proxy, trouble: Trouble, tmp_path: Path
) -> None:
    """A worker that leaves while the store is away stores its response when the store is back."""
    job = Job("lingering", "/work/300")
    with site(tmp_path, proxy.url, workers=1, IDEMPOTENT_LINGER=20) as served:
        (worker,) = served.workers()
        with Swarm(served.port, 1, iter([job])) as swarm:
            until(lambda: Truth(tmp_path).count == 1)
            trouble.begin()
        until(lambda: Truth(tmp_path).named("store_failed"))
        served.strike(worker, signal.SIGTERM)
        until(lambda: "has not taken: records IDEMPOTENT_{" in served.output())
        assert not Truth(tmp_path).named("completed")
        trouble.end()
        row = Row(f"SIGTERM while the store {trouble.name}", kills=1)
        conclude(row, served, swarm, job, clean_valkey.url)
        assert "is lost" not in served.output()


def conclude(row: Row, served: Site, swarm: Swarm, job: Job, url: str) -> None:
    """Wait until the worker has left, and see that it had stored the one response by then."""
    served.until_exits(1)
    exited = served.deaths()[0].time
    times = [note["time"] for note in Truth(served.folder).named("completed")]
    row.require(times and times[0] < exited, "the worker left without storing its response")
    stored(row, url, [job.key])
    retry = ask(served.port, 1, [job])
    truth = Truth(served.folder)
    row.requests, row.runs = swarm.requests + retry.requests, truth.count
    row.faults = swarm.faults.total() + retry.faults.total()
    answers = swarm.answers + retry.answers
    all_answered(row, answers, swarm.unanswered + retry.unanswered)
    ran_once(row, truth, [job.key])
    one_answer(row, truth, answers)
    row.conclude()
