"""Nothing is left after thousands of requests."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import request

from tests.chaos.services import AppService, Failed
from tests.chaos.serving import sized
from tests.support.clients import Gate
from tests.support.polling import until
from tests.support.redis_servers import Server, valkey_binary

pytestmark = pytest.mark.chaos

ROW = "leaks: nothing is left"

REQUESTS = sized(10_000, 1_000)
WAITS = sized(1_000, 100)
THREADS = 8
RUNNING_THREADS = {"flask-idempotent-worker": 1, "flask-idempotent-subscriber": 1}


def objects() -> Counter[str]:
    """How many objects of this package there are, by their class."""
    gc.collect()
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in kinds
        if str(kind.__module__).startswith("flask_idempotent")
    )


def threads() -> Counter[str]:
    names = (thread.name for thread in threading.enumerate())
    return Counter(name for name in names if name.startswith("flask-idempotent"))


def clients(server: Server) -> Counter[str]:
    """The connections at the server, by kind, without this test's own."""
    own = server.client.client_id()
    listed = [client for client in server.client.client_list() if int(client["id"]) != own]
    return Counter("P" if "P" in client["flags"] else "N" for client in listed)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that nobody else uses."""
    server = Server(valkey_binary(), tmp_path).start()
    yield server
    server.stop()


@pytest.mark.timeout(300)
def test_leaks(server: Server) -> None:
    """After thousands of requests there is one worker, one subscriber, the pool, and no more."""
    gates: dict[str, Gate] = {}

    def view() -> object:
        key = request.headers["Idempotency-Key"]
        if key in gates:
            gates[key]()
        if request.data == b"fail":
            raise Failed
        if request.data == b"stream":
            return (b"%d" % number for number in range(3))
        return b"done"

    # Other tests of this process may have left some.
    before = threads()
    service = AppService(server.url, view, expire=30)  # type: ignore[arg-type]

    def ask(number: int) -> int:
        payload = ("plain", "stream", "fail", "plain")[number % 4]
        # Each second request is a duplicate of the one before it.
        return service.send(f"key-{number // 8}-{number % 4}", payload)[0]

    with ExitStack() as stack:
        stack.callback(service.engine.close)
        pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        statuses = Counter(pool.map(ask, range(200)))
        wait(service, gates, pool, "early", THREADS - 1)
        settled = objects()
        statuses += Counter(pool.map(ask, range(200, REQUESTS)))
        for turn in range(WAITS // (THREADS - 1) + 1):
            wait(service, gates, pool, f"wait-{turn}", THREADS - 1)
        assert set(statuses) == {200, 500}
        # The last channels are left, and their threads end, in the background.
        until(lambda: objects() - settled == {})
        until(lambda: threads() - before == RUNNING_THREADS)
        check_idle(server, service)
    assert threads() - before == {}
    until(lambda: clients(server) == {}, 5)


def check_idle(server: Server, service: AppService) -> None:
    connections = clients(server)
    assert connections["P"] <= 1
    assert connections["N"] + connections["P"] <= THREADS + 2
    until(lambda: server.client.pubsub_channels() == [])
    assert not service.engine.worker.renewals
    until(lambda: not service.engine.worker.pending)


def wait(
    service: AppService, gates: dict[str, Gate], pool: ThreadPoolExecutor, key: str, count: int
) -> None:
    """Let ``count`` duplicates wait for a key's first request."""
    gate = gates[key] = Gate()
    send: Callable[[], Future[int]] = lambda: pool.submit(  # noqa: E731
        lambda: service.send(key)[0]
    )
    first = send()
    gate.reached()
    waiters = [send() for _ in range(count)]
    until(lambda: service.engine.waiters == count)
    gate.open()
    assert {answer.result() for answer in (first, *waiters)} == {200}
    until(lambda: service.engine.waiters == 0)
    del gates[key]
