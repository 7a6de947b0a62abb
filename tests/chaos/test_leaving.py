"""A worker that is terminated while a response is not stored yet."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.chaos.clients import Request, RetryingClients, send_all
from tests.chaos.history import History
from tests.chaos.notes import gate_of
from tests.chaos.promises import all_answered, one_answer, ran_once, stored
from tests.chaos.serving import Row, ServedApp, serve
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
    """A response that the store did not take is stored when the worker leaves, or before."""
    request = Request("leaving", "/gated")
    with serve(tmp_path, proxy.url, workers=1) as served:
        (worker,) = served.workers()
        with RetryingClients(served.port, 1, iter([request])) as clients:
            until(lambda: History(tmp_path).count == 1)
            trouble.begin()
            gate_of(tmp_path, request.key).touch()
        until(lambda: History(tmp_path).named("store_failed"))
        assert not History(tmp_path).named("completed")
        trouble.end()
        served.strike(worker, signal.SIGTERM)
        row = Row(f"SIGTERM after the store {trouble.name}", kills=1)
        conclude(row, served, clients, request, clean_valkey.url)


def test_store_comes_back_while_the_worker_lingers(
    clean_valkey: Server, proxy: Proxy, trouble: Trouble, tmp_path: Path
) -> None:
    """A worker that leaves while the store is away stores its response when the store is back."""
    request = Request("lingering", "/gated")
    with serve(tmp_path, proxy.url, workers=1, IDEMPOTENT_LINGER=20) as served:
        (worker,) = served.workers()
        with RetryingClients(served.port, 1, iter([request])) as clients:
            until(lambda: History(tmp_path).count == 1)
            trouble.begin()
            gate_of(tmp_path, request.key).touch()
        until(lambda: History(tmp_path).named("store_failed"))
        served.strike(worker, signal.SIGTERM)
        until(lambda: "has not accepted: records IDEMPOTENT_{" in served.output())
        assert not History(tmp_path).named("completed")
        trouble.end()
        row = Row(f"SIGTERM while the store {trouble.name}", kills=1)
        conclude(row, served, clients, request, clean_valkey.url)
        assert "is lost" not in served.output()


def conclude(
    row: Row, served: ServedApp, clients: RetryingClients, request: Request, url: str
) -> None:
    """Wait until the worker has exited, and check that it stored the response before."""
    served.until_exits(1)
    exited = served.deaths()[0].time
    times = [note["time"] for note in History(served.folder).named("completed")]
    row.require(times and times[0] < exited, "the worker left without storing its response")
    stored(row, url, [request.key])
    retry = send_all(served.port, 1, [request])
    history = History(served.folder)
    row.requests, row.runs = clients.sent + retry.sent, history.count
    row.faults = clients.faults.total() + retry.faults.total()
    answers = clients.answers + retry.answers
    all_answered(row, answers, clients.unanswered + retry.unanswered)
    ran_once(row, history, [request.key])
    one_answer(row, history, answers)
    row.conclude()
