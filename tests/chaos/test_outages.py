"""Servers that are killed, stopped, full, read-only, loading, or lose their scripts."""

from __future__ import annotations

import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from flask_idempotent import current_claim
from flask_idempotent.record_format import decode
from flask_idempotent.records import CompletedRecord, RunningRecord
from flask_idempotent.stores.redis import client as redis_client
from tests.chaos.doors import AppDoor, Door, GatedRuns, Runs, late, lost_leases, tally, timed
from tests.chaos.harness import sized
from tests.support.clients import Gate
from tests.support.polling import until
from tests.support.proxy import Proxy
from tests.support.redis_servers import Server, free_port, redis_binary, valkey_binary

pytestmark = pytest.mark.chaos

#: A dead store is told within this time, with a little for the machine.
TOLD = 2.0 + 0.3

MakeServer = Callable[..., Server]
MakeDoor = Callable[..., Door]
Background = Callable[..., Future[Any]]


BINARIES = {"valkey": valkey_binary, "redis": redis_binary}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers of a kind, which a test may break as it likes."""
    with ExitStack() as stack:

        def make(kind: str, *options: str) -> Server:
            folder = tmp_path / str(free_port())
            folder.mkdir()
            server = Server(BINARIES[kind](), folder, *options)
            stack.callback(server.stop)
            return server.start()

        yield make


@pytest.fixture(params=BINARIES)
def make_server(request: pytest.FixtureRequest, servers: Callable[..., Server]) -> MakeServer:
    """Makes servers of each kind in turn."""
    return partial(servers, request.param)


@pytest.fixture
def make_door() -> Iterator[MakeDoor]:
    """Makes applications on a server, each as if in a process of its own."""
    with ExitStack() as stack:

        def make(url: str, view: Any, kind: type[Door] = AppDoor, **settings: Any) -> Door:
            door = kind(url, view, **settings)
            stack.callback(door.engine.close)
            return door

        yield make


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

    def test_hundred_at_once(self, dead_url: str, make_door: MakeDoor) -> None:
        """R7: a hundred requests on fifty connections are told of a dead store within 2 s each."""
        runs = Runs()
        door = make_door(dead_url, runs)
        assert redis_client._MAX_CONNECTIONS == 50
        answers = at_once(100, lambda number: timed(door, f"key-{number}"))
        assert {answer.status for answer in answers} == {503}
        assert late(answers, TOLD) == []
        assert runs.count == 0

    def test_stopped_when_it_was_in_use(self, clean_valkey: Server, make_door: MakeDoor) -> None:
        """R7: so are those whose connections stood; afterwards each key runs at its first retry."""
        runs = Runs()
        door = make_door(clean_valkey.url, runs)
        answers = at_once(100, lambda number: timed(door, f"before-{number}"))
        assert {answer.status for answer in answers} == {200}
        clean_valkey.signal(signal.SIGSTOP)
        try:
            answers = at_once(100, lambda number: timed(door, f"key-{number}"))
        finally:
            clean_valkey.signal(signal.SIGCONT)
        assert {answer.status for answer in answers} == {503}
        assert late(answers, TOLD) == []
        answers = at_once(100, lambda number: timed(door, f"key-{number}"))
        assert {answer.status for answer in answers} == {200}
        assert late(answers, TOLD) == []
        assert runs.count == 200


T = TypeVar("T")


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """Do something in so many threads at the same moment."""
    barrier = threading.Barrier(count)

    def start(number: int) -> T:
        barrier.wait(10)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))


class TestKilledServer:
    row = "outage: server killed and restarted"

    def test_restart(
        self, make_server: MakeServer, make_door: MakeDoor, background: Background
    ) -> None:
        """A restart loses nothing that was stored; what could not be stored is stored after it."""
        server = make_server("--appendonly", "yes", "--appendfsync", "always")
        runs = GatedRuns()
        door, other = make_door(server.url, runs), make_door(server.url, runs)
        first = background(timed, door, "stored")
        runs.gate.reached()
        runs.gate.open()
        assert first.result().status == 200
        runs.gate = Gate()
        running = background(timed, door, "running")
        runs.gate.reached()
        waiting = background(timed, other, "running")
        until(lambda: other.engine.waiters == 1)

        server.kill()
        told = timed(door, "new")
        assert (told.status, told.within(TOLD)) == (503, True)
        runs.gate.open()
        answer = running.result()
        assert (answer.status, answer.body) == (200, b"run 2")
        server.start()

        until(lambda: not door.engine.worker.pending, 5)
        assert waiting.result().body == b"run 2"
        assert [door.send("stored"), other.send("stored")] == [(200, b"run 1")] * 2
        assert [door.send("running"), other.send("running")] == [(200, b"run 2")] * 2
        assert door.send("new") == (200, b"run 3")
        assert runs.count == 3

    def test_waiting_meanwhile(
        self, make_server: MakeServer, make_door: MakeDoor, background: Background
    ) -> None:
        """A request that waits when the server dies is answered by its own timeout: 503."""
        server = make_server()
        runs = GatedRuns()
        door = make_door(server.url, runs, timeout=1.5)
        running = background(timed, door)
        runs.gate.reached()
        waiting = background(timed, door)
        until(lambda: door.engine.waiters == 1)
        server.kill()
        answer = waiting.result()
        assert answer.status == 503
        assert answer.seconds >= 1.5
        assert answer.within(1.7)
        runs.gate.open()
        assert running.result().status == 200
        # Nobody is to hear of the response that is lost at the end of this test.
        door.engine.worker.pending._writes.clear()


class TestStoppedServer:
    row = "outage: server stopped for 3 s"

    def test_stop(
        self, servers: Callable[..., Server], make_door: MakeDoor, background: Background
    ) -> None:
        """A server that stands still for 3 s: 503, timeouts kept, one run for each key after it."""
        # Both at once: most of the time nothing happens.
        plays = [background(self._stop, servers(kind), make_door, background) for kind in BINARIES]
        for play in plays:
            play.result()

    def _stop(self, server: Server, make_door: MakeDoor, background: Background) -> None:
        runs = GatedRuns()
        door = make_door(server.url, runs, timeout=2.5, lease=10)
        patient = make_door(server.url, runs, timeout=8)
        running = background(timed, door, "running")
        runs.gate.reached()
        at_once(8, ping(door))  # Connections that stand, on which commands may wait.
        waiting = [background(timed, d, "running") for d in (door, door, patient)]
        until(lambda: door.engine.waiters == 2 and patient.engine.waiters == 1)
        with lost_leases(door, patient) as told:
            server.signal(signal.SIGSTOP)
            stopped = time.monotonic()
            answers = at_once(8, lambda n: timed(door, f"new-{n}"))
            runs.gate.open()
            assert {answer.status for answer in answers} == {503}
            assert late(answers, TOLD) == []
            answer = running.result()
            assert (answer.status, answer.body) == (200, b"run 1")
            impatient = [waiter.result() for waiter in waiting[:2]]
            assert {answer.status for answer in impatient} == {503}
            assert late(impatient, 2.7) == []
            threading.Event().wait(stopped + 3 - time.monotonic())
            server.signal(signal.SIGCONT)
            assert waiting[2].result().body == b"run 1"
            until(lambda: not door.engine.worker.pending, 5)
            assert all(isinstance(record, CompletedRecord) for record in records(door)), "revived"
            answers = at_once(8, lambda n: timed(door, f"new-{n}"))
        assert {answer.status for answer in answers} == {200}
        assert late(answers, 1) == []
        assert runs.count == 9
        assert told == []


def ping(door: Door) -> Callable[[int], object]:
    return lambda number: door.engine.store.ping()


def records(door: Door) -> list[object]:
    store = door.engine.store
    return [store.read(name) for name in store.scan("IDEMPOTENT_")]


class TestTraffic:
    """A server that is annoyed while requests come."""

    row = "outage: connections killed, scripts flushed"

    def test_killed_connections(self, make_server: MakeServer, make_door: MakeDoor) -> None:
        """Connections killed every 100 ms cost a retry at most: one run for each key, all equal."""
        server = make_server()
        kills: list[int] = []

        def kill() -> None:
            kills.append(server.client.client_kill_filter(_type="normal", skipme=True))
            kills.append(server.client.client_kill_filter(_type="pubsub"))

        refused = self._traffic(server, make_door, kill)
        assert sum(kills) > 10
        tally.add("kills", sum(kills))
        assert refused < 20

    def test_flushed_scripts(self, make_server: MakeServer, make_door: MakeDoor) -> None:
        """Scripts flushed during traffic are sent again, and no client notices."""
        server = make_server()
        assert self._traffic(server, make_door, server.client.script_flush) == 0

    def _traffic(self, server: Server, make_door: MakeDoor, annoy: Callable[[], object]) -> int:
        runs: dict[str, int] = {}
        bodies: dict[str, set[bytes]] = {}
        refused: list[str] = []
        until_then = time.monotonic() + sized(20, 1.0)

        def view() -> bytes:
            key = key_of_claim()
            runs[key] = runs.get(key, 0) + 1
            time.sleep(0.02)
            return f"{key} {runs[key]}".encode()

        doors = [make_door(server.url, view) for _ in range(2)]

        def client(number: int) -> None:
            turn = 0
            while time.monotonic() < until_then:
                turn += 1
                # Two doors and two threads for each key.
                key = f"{number // 4}-{turn}"
                answer = timed(doors[number % 2], key)
                while answer.status == 503:
                    refused.append(key)
                    answer = timed(doors[number % 2], key)
                assert answer.status == 200
                assert answer.within(3)
                bodies.setdefault(key, set()).add(answer.body)

        with ThreadPoolExecutor(12) as pool:
            clients = [pool.submit(client, number) for number in range(12)]
            while time.monotonic() < until_then:
                annoy()
                threading.Event().wait(0.1)
            for each in clients:
                each.result()
        assert len(runs) > 20
        assert set(runs.values()) == {1}
        assert {len(equal) for equal in bodies.values()} == {1}
        return len(refused)


class TestRefusedWrites:
    row = "outage: out of memory, read-only, promoted"

    def test_out_of_memory(
        self, make_server: MakeServer, make_door: MakeDoor, background: Background
    ) -> None:
        """A full server replays on and takes nothing new; what ran meanwhile is stored later."""
        server = make_server("--maxmemory-policy", "noeviction")
        runs = GatedRuns()
        door, other = make_door(server.url, runs), make_door(server.url, runs)
        running = background(timed, door, "running")
        runs.gate.reached()
        stored = background(timed, door, "stored")
        runs.gate.reached()
        server.client.config_set("maxmemory", 1)
        runs.gate.open()
        assert running.result().status == stored.result().status == 200
        server.client.config_set("maxmemory", 0)
        until(lambda: not door.engine.worker.pending, 5)

        server.client.config_set("maxmemory", 1)
        assert [door.send("running")[0], other.send("stored")[0]] == [200, 200]
        told = timed(door, "new")
        assert (told.status, told.within(TOLD)) == (503, True)
        server.client.config_set("maxmemory", 0)
        assert door.send("new")[0] == other.send("new")[0] == 200
        assert runs.count == 3

    def test_promoted_replica(self, make_server: MakeServer, make_door: MakeDoor) -> None:
        """A read-only replica replays what it has and takes nothing new; promoted, it does."""
        # Without a disk in between, Redis 7.0 calls a replica online only after its first word.
        primary, replica = make_server("--repl-diskless-sync", "no"), make_server()
        replica.client.execute_command("REPLICAOF", "127.0.0.1", str(primary.port))
        runs = Runs()
        before, after = make_door(primary.url, runs), make_door(replica.url, runs)
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
        self, make_server: MakeServer, make_door: MakeDoor, background: Background
    ) -> None:
        """A claim that reached the replica is completed there; one that did not is put there."""
        primary, replica = make_server(), make_server()
        runs = GatedRuns()
        with closing(Proxy(primary.port)) as switch:
            door = make_door(switch.url, runs, lease=1.5)
            running = background(timed, door)
            runs.gate.reached()
            # The replica has heard of nothing: the failover lost the claim.
            switch.target = replica.port
            primary.kill()
            switch.cut_all()
            until(lambda: any(isinstance(r, RunningRecord) for r in records_at(replica)), 5)
            waiting = background(timed, door)
            until(lambda: door.engine.waiters == 1)
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
        """A server that has yet to read its data."""

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

    def test_loading(self, loading: str, make_door: MakeDoor) -> None:
        """A server that is loading is told at once, and leaves nothing to be done later."""
        runs = Runs()
        door = make_door(loading, runs)
        answers = at_once(20, lambda number: timed(door, f"key-{number}"))
        assert {answer.status for answer in answers} == {503}
        assert late(answers, 1) == []
        assert runs.count == 0
        assert not door.engine.worker.pending


LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"


class TestOneBadResponse:
    row = "outage: a response that breaks its connection"

    def test_response_that_the_server_never_takes(
        self, make_server: MakeServer, make_door: MakeDoor
    ) -> None:
        """A response that breaks each connection it is sent on stands in no other request's way."""
        server = make_server("--proto-max-bulk-len", "1mb")
        bodies = {"large": b"x" * (1 << 20), "small": b"small"}
        door = make_door(server.url, lambda: bodies[key_of_claim()])
        assert door.send("large") == (200, bodies["large"])
        assert door.send("small") == (200, b"small")
        assert door.send("small") == (200, b"small")


def key_of_claim() -> str:
    return str(current_claim.key)
