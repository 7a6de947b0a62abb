"""Servers that are dead, killed or stopped."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from flask_idempotent.records import CompletedRecord
from flask_idempotent.stores.redis import node as redis_node
from tests.chaos.conftest import BINARIES
from tests.chaos.services import (
    DEAD_WITHIN,
    CountingView,
    GatedView,
    Service,
    at_once,
    late,
    lost_leases,
    timed,
)
from tests.support.clients import Gate
from tests.support.polling import until
from tests.support.redis_servers import Server, free_port

pytestmark = pytest.mark.chaos

MakeServer = Callable[..., Server]
MakeService = Callable[..., Service]
Background = Callable[..., Future[Any]]


class TestDeadServer:
    """A server that does not answer."""

    row = "outage: server dead, silent or stopped"

    @pytest.fixture(params=["refusing", "silent", "stopped"])
    def dead_url(self, request: pytest.FixtureRequest) -> Iterator[str]:
        if request.param == "refusing":
            yield f"redis://127.0.0.1:{free_port()}/0"
        elif request.param == "silent":
            with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
                yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        else:
            server: Server = request.getfixturevalue("clean_valkey")
            server.signal(signal.SIGSTOP)
            yield server.url
            server.signal(signal.SIGCONT)

    def test_hundred_at_once(self, dead_url: str, make_service: MakeService) -> None:
        """R7: a hundred requests on fifty connections learn in 2 s that the store is dead."""
        runs = CountingView()
        service = make_service(dead_url, runs)
        assert redis_node._MAX_CONNECTIONS == 50
        answers = at_once(100, lambda number: timed(service, f"key-{number}"))
        assert {answer.status for answer in answers} == {503}
        assert late(answers, DEAD_WITHIN) == []
        assert runs.count == 0

    def test_stopped_when_it_was_in_use(
        self, clean_valkey: Server, make_service: MakeService
    ) -> None:
        """R7: so do those with open connections; afterwards each key runs at its first retry."""
        runs = CountingView()
        service = make_service(clean_valkey.url, runs)
        answers = at_once(100, lambda number: timed(service, f"before-{number}"))
        assert {answer.status for answer in answers} == {200}
        clean_valkey.signal(signal.SIGSTOP)
        try:
            answers = at_once(100, lambda number: timed(service, f"key-{number}"))
        finally:
            clean_valkey.signal(signal.SIGCONT)
        assert {answer.status for answer in answers} == {503}
        assert late(answers, DEAD_WITHIN) == []
        answers = at_once(100, lambda number: timed(service, f"key-{number}"))
        assert {answer.status for answer in answers} == {200}
        assert late(answers, DEAD_WITHIN) == []
        assert runs.count == 200


class TestKilledServer:
    row = "outage: server killed and restarted"

    def test_restart(
        self, make_server: MakeServer, make_service: MakeService, background: Background
    ) -> None:
        """A restart loses nothing that was stored; what could not be stored is stored after it."""
        server = make_server("--appendonly", "yes", "--appendfsync", "always")
        runs = GatedView()
        service, other = make_service(server.url, runs), make_service(server.url, runs)
        first = background(timed, service, "stored")
        runs.gate.reached()
        runs.gate.open()
        assert first.result().status == 200
        runs.gate = Gate()
        running = background(timed, service, "running")
        runs.gate.reached()
        waiting = background(timed, other, "running")
        until(lambda: other.engine.waiters == 1)

        server.kill()
        answer = timed(service, "new")
        assert (answer.status, answer.within(DEAD_WITHIN)) == (503, True)
        runs.gate.open()
        answer = running.result()
        assert (answer.status, answer.body) == (200, b"run 2")
        server.start()

        until(lambda: not service.engine.worker.pending, 5)
        assert waiting.result().body == b"run 2"
        assert [service.send("stored"), other.send("stored")] == [(200, b"run 1")] * 2
        assert [service.send("running"), other.send("running")] == [(200, b"run 2")] * 2
        assert service.send("new") == (200, b"run 3")
        assert runs.count == 3

    def test_waiting_meanwhile(
        self, make_server: MakeServer, make_service: MakeService, background: Background
    ) -> None:
        """A request that waits when the server dies is answered by its own timeout: 503."""
        server = make_server()
        runs = GatedView()
        service = make_service(server.url, runs, timeout=1.5)
        running = background(timed, service)
        runs.gate.reached()
        waiting = background(timed, service)
        until(lambda: service.engine.waiters == 1)
        server.kill()
        answer = waiting.result()
        assert answer.status == 503
        assert answer.seconds >= 1.5
        assert answer.within(1.7)
        runs.gate.open()
        assert running.result().status == 200


class TestStoppedServer:
    row = "outage: server stopped for 3 s"

    def test_stop(
        self, servers: Callable[..., Server], make_service: MakeService, background: Background
    ) -> None:
        """A server that is stopped for 3 s: 503, timeouts kept, one run for each key after it."""
        # Both at once, as they mostly wait.
        runs_of_both = [
            background(self._stop, servers(kind), make_service, background) for kind in BINARIES
        ]
        for run in runs_of_both:
            run.result()

    def _stop(self, server: Server, make_service: MakeService, background: Background) -> None:
        runs = GatedView()
        service = make_service(server.url, runs, timeout=2.5, lease=10)
        patient = make_service(server.url, runs, timeout=8)
        running = background(timed, service, "running")
        runs.gate.reached()
        at_once(8, ping(service))  # Open connections, on which commands may wait.
        waiting = [background(timed, d, "running") for d in (service, service, patient)]
        until(lambda: service.engine.waiters == 2 and patient.engine.waiters == 1)
        with lost_leases(service, patient) as owners:
            server.signal(signal.SIGSTOP)
            stopped = time.monotonic()
            answers = at_once(8, lambda n: timed(service, f"new-{n}"))
            runs.gate.open()
            assert {answer.status for answer in answers} == {503}
            assert late(answers, DEAD_WITHIN) == []
            answer = running.result()
            assert (answer.status, answer.body) == (200, b"run 1")
            impatient = [waiter.result() for waiter in waiting[:2]]
            assert {answer.status for answer in impatient} == {503}
            assert late(impatient, 2.7) == []
            threading.Event().wait(stopped + 3 - time.monotonic())
            server.signal(signal.SIGCONT)
            assert waiting[2].result().body == b"run 1"
            until(lambda: not service.engine.worker.pending, 5)
            assert all(isinstance(record, CompletedRecord) for record in records(service)), (
                "revived"
            )
            answers = at_once(8, lambda n: timed(service, f"new-{n}"))
        assert {answer.status for answer in answers} == {200}
        assert late(answers, 1) == []
        assert runs.count == 9
        assert owners == []


def ping(service: Service) -> Callable[[int], object]:
    return lambda number: service.engine.store.ping()


def records(service: Service) -> list[object]:
    store = service.engine.store
    return [store.read(name) for name in store.scan("IDEMPOTENT_")]
