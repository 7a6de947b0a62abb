"""Servers that break connections, lose scripts, refuse writes, load, or refuse a response."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from flask_idempotent import current_claim
from flask_idempotent.record_format import decode
from flask_idempotent.records import RunningRecord
from tests.chaos.services import (
    DEAD_WITHIN,
    CountingView,
    GatedView,
    Service,
    at_once,
    late,
    tally,
    timed,
)
from tests.chaos.serving import sized
from tests.support.polling import until
from tests.support.proxy import Proxy
from tests.support.redis_servers import Server

pytestmark = pytest.mark.chaos

MakeServer = Callable[..., Server]
MakeService = Callable[..., Service]
Background = Callable[..., Future[Any]]


class TestTraffic:
    """A server that is disturbed while requests come."""

    row = "outage: connections killed, scripts flushed"

    def test_killed_connections(self, make_server: MakeServer, make_service: MakeService) -> None:
        """Connections killed every 100 ms cost a retry at most: one run for each key, all equal."""
        server = make_server()
        kills: list[int] = []

        def kill() -> None:
            kills.append(server.client.client_kill_filter(_type="normal", skipme=True))
            kills.append(server.client.client_kill_filter(_type="pubsub"))

        refused = self._traffic(server, make_service, kill, lambda: sum(kills) > 10)
        tally.add("kills", sum(kills))
        assert refused < 20

    def test_flushed_scripts(self, make_server: MakeServer, make_service: MakeService) -> None:
        """Scripts flushed during traffic are sent again, and no client notices."""
        server = make_server()
        assert self._traffic(server, make_service, server.client.script_flush) == 0

    def _traffic(
        self,
        server: Server,
        make_service: MakeService,
        disturb: Callable[[], object],
        is_disturbed: Callable[[], bool] = lambda: True,
    ) -> int:
        """Send requests for a while, until there were enough of them and of what disturbs them.

        :returns: how many got a 503.
        """
        runs: dict[str, int] = {}
        bodies: dict[str, set[bytes]] = {}
        refused: list[str] = []
        over = threading.Event()

        def view() -> bytes:
            key = key_of_claim()
            runs[key] = runs.get(key, 0) + 1
            time.sleep(0.02)
            return f"{key} {runs[key]}".encode()

        services = [make_service(server.url, view) for _ in range(2)]

        def client(number: int) -> None:
            turn = 0
            while not over.is_set():
                turn += 1
                # Two services and two threads for each key.
                key = f"{number // 4}-{turn}"
                answer = timed(services[number % 2], key)
                while answer.status == 503:
                    refused.append(key)
                    answer = timed(services[number % 2], key)
                assert answer.status == 200
                assert answer.within(3)
                bodies.setdefault(key, set()).add(answer.body)

        self._disturb_meanwhile(client, disturb, over, lambda: len(runs) > 20 and is_disturbed())
        assert set(runs.values()) == {1}
        assert {len(equal) for equal in bodies.values()} == {1}
        return len(refused)

    def _disturb_meanwhile(
        self,
        client: Callable[[int], None],
        disturb: Callable[[], object],
        over: threading.Event,
        is_enough: Callable[[], bool],
    ) -> None:
        end = time.monotonic() + sized(20, 1.0)
        with ThreadPoolExecutor(12) as pool:
            clients = [pool.submit(client, number) for number in range(12)]
            while time.monotonic() < end or not is_enough():
                disturb()
                over.wait(0.1)
                if any(each.done() for each in clients):
                    break  # It has failed.
            over.set()
            for each in clients:
                each.result()


class TestRefusedWrites:
    row = "outage: out of memory, read-only, promoted"

    def test_out_of_memory(
        self, make_server: MakeServer, make_service: MakeService, background: Background
    ) -> None:
        """A full server replays on and takes nothing new; what ran meanwhile is stored later."""
        server = make_server("--maxmemory-policy", "noeviction")
        runs = GatedView()
        service, other = make_service(server.url, runs), make_service(server.url, runs)
        running = background(timed, service, "running")
        runs.gate.reached()
        stored = background(timed, service, "stored")
        runs.gate.reached()
        server.client.config_set("maxmemory", 1)
        runs.gate.open()
        assert running.result().status == stored.result().status == 200
        server.client.config_set("maxmemory", 0)
        until(lambda: not service.engine.worker.pending, 5)

        server.client.config_set("maxmemory", 1)
        assert [service.send("running")[0], other.send("stored")[0]] == [200, 200]
        answer = timed(service, "new")
        assert (answer.status, answer.within(DEAD_WITHIN)) == (503, True)
        server.client.config_set("maxmemory", 0)
        assert service.send("new")[0] == other.send("new")[0] == 200
        assert runs.count == 3

    def test_promoted_replica(self, make_server: MakeServer, make_service: MakeService) -> None:
        """A read-only replica replays what it has and takes nothing new; promoted, it does."""
        # Without a disk Redis 7.0 calls a replica online only after it has asked for data.
        primary, replica = make_server("--repl-diskless-sync", "no"), make_server()
        replica.client.execute_command("REPLICAOF", "127.0.0.1", str(primary.port))
        runs = CountingView()
        before, after = make_service(primary.url, runs), make_service(replica.url, runs)
        until(lambda: replica.client.info("replication")["master_link_status"] == "up")
        assert before.send("stored") == (200, b"run 1")
        assert primary.client.wait(1, 4000) == 1, "the replica has not got what was stored"
        assert after.send("stored") == (200, b"run 1")
        assert after.send("new")[0] == 503
        replica.client.execute_command("REPLICAOF", "NO", "ONE")
        primary.kill()
        assert after.send("new") == (200, b"run 2")
        assert after.send("stored") == (200, b"run 1")
        assert runs.count == 2

    def test_promoted_while_a_view_runs(
        self, make_server: MakeServer, make_service: MakeService, background: Background
    ) -> None:
        """A claim that reached the replica is completed there; one that did not is put there."""
        primary, replica = make_server(), make_server()
        runs = GatedView()
        with closing(Proxy(primary.port)) as switch:
            service = make_service(switch.url, runs, lease=1.5)
            running = background(timed, service)
            runs.gate.reached()
            # Nothing reached the replica: the failover lost the claim.
            switch.target = replica.port
            primary.kill()
            switch.cut_all()
            until(lambda: any(isinstance(r, RunningRecord) for r in records_at(replica)), 5)
            waiting = background(timed, service)
            until(lambda: service.engine.waiters == 1)
            runs.gate.open()
            assert running.result().body == waiting.result().body == b"run 1"
        assert runs.count == 1


def records_at(server: Server) -> list[object]:
    values = [server.client.get(key) for key in server.client.scan_iter()]
    return [decode(value) for value in values if isinstance(value, bytes)]


class TestLoading:
    row = "outage: server loading"

    @pytest.fixture
    def loading(self) -> Iterator[str]:
        """A server that is still loading its data."""

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while line := self.rfile.readline():
                    count = int(line[1:])
                    parts = [self._part() for _ in range(count)]
                    known = parts[0].strip().upper() in (b"CLIENT", b"SELECT")
                    self.wfile.write(b"+OK\r\n" if known else LOADING)

            def _part(self) -> bytes:
                return self.rfile.read(int(self.rfile.readline()[1:]) + 2)

        class Threaded(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

        with Threaded(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            yield f"redis://127.0.0.1:{server.server_address[1]}/0"
            server.shutdown()
            thread.join()

    def test_loading(self, loading: str, make_service: MakeService) -> None:
        """While the server is loading requests get 503 at once, and leave nothing pending."""
        runs = CountingView()
        service = make_service(loading, runs)
        answers = at_once(20, lambda number: timed(service, f"key-{number}"))
        assert {answer.status for answer in answers} == {503}
        assert late(answers, 1) == []
        assert runs.count == 0
        assert not service.engine.worker.pending


LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"


class TestOneBadResponse:
    row = "outage: a response that breaks its connection"

    def test_response_that_the_server_never_takes(
        self, make_server: MakeServer, make_service: MakeService
    ) -> None:
        """A response that breaks each connection it is sent on delays no other request."""
        server = make_server("--proto-max-bulk-len", "1mb")
        bodies = {"large": b"x" * (1 << 20), "small": b"small"}
        service = make_service(server.url, lambda: bodies[key_of_claim()])
        assert service.send("large") == (200, bodies["large"])
        assert service.send("small") == (200, b"small")
        assert service.send("small") == (200, b"small")


def key_of_claim() -> str:
    return str(current_claim.key)
