"""Connections that lead nowhere any more: demoted servers, moved addresses, forgotten flows."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import pytest
from flask import Flask

from flask_idempotent import Idempotent, _timing
from flask_idempotent.errors import StoreError, StoreUnavailable, WriteRefused
from flask_idempotent.stores.base import Claimed, Completion
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.store import RedisStore
from flask_idempotent.web.state import state_of
from tests.stores.harness import HOUR, answer, running
from tests.support.clients import Gate, post
from tests.support.polling import until
from tests.support.proxy import Fault, Proxy
from tests.support.redis_servers import Server, free_port, valkey_binary

KEY = "IDEMPOTENT_{moving}"


class Pair(NamedTuple):
    """Two servers, and an address that leads to the first until it moves."""

    primary: Server
    replica: Server
    address: Proxy

    def fail_over(self) -> None:
        """Promote the replica, demote the primary, whose connections stay, and move the address."""
        self.primary.client.wait(1, 5000)
        self.replica.client.execute_command("REPLICAOF", "NO", "ONE")
        self.primary.client.execute_command("REPLICAOF", "127.0.0.1", str(self.replica.port))
        self.address.target = self.replica.port


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    # As of old, without a pause before a replica gets its copy.
    options = ("--repl-diskless-sync", "no")
    made = [Server(valkey_binary(), tmp_path_factory.mktemp("pair"), *options) for _ in range(2)]
    for server in made:
        server.start()
    yield made
    for server in made:
        server.stop()


@pytest.fixture
def pair(servers: list[Server]) -> Iterator[Pair]:
    primary, replica = servers
    # They change roles with each test.
    servers.reverse()
    primary.client.execute_command("REPLICAOF", "NO", "ONE")
    primary.client.flushall()
    replica.client.execute_command("REPLICAOF", "127.0.0.1", str(primary.port))
    until(lambda: replica.client.info("replication")["master_link_status"] == "up")
    address = Proxy(primary.port)
    yield Pair(primary, replica, address)
    address.close()


@pytest.fixture
def store(pair: Pair) -> Iterator[RedisStore]:
    store = RedisStore(Client.from_url(pair.address.url))
    yield store
    store.close()


def claim(store: RedisStore, name: str = "ada", key: str = KEY) -> object:
    return store.claim(key, running(name), ttl_ms=2 * HOUR)


def contend(store: RedisStore, name: str = "ada", key: str = KEY) -> object:
    return store.contend(key, running(name), ttl_ms=2 * HOUR, takeover=True)


class TestDemotion:
    """The primary is demoted, its connections stay, and the address moves to the promoted one."""

    @pytest.mark.parametrize("ask", [claim, contend])
    def test_served_at_once(
        self, pair: Pair, store: RedisStore, ask: Callable[..., object]
    ) -> None:
        """The next request is served by the promoted server, at once and without an error."""
        claim(store)
        pair.fail_over()
        started = time.monotonic()
        assert ask(store, key=KEY + "2") == Claimed(1)
        assert time.monotonic() - started < 2
        assert pair.replica.client.exists(KEY + "2")

    def test_claim_is_completed_once(self, pair: Pair, make_app: Any) -> None:
        """A claim that was held over the change is completed on the promoted server."""
        app, gate, runs = make_app(config={"REDIS_URL": pair.address.url}), Gate(), []

        @app.post("/")
        def view() -> str:
            runs.append("run")
            gate()
            return "done"

        first = threading.Thread(target=post, args=(app,))
        first.start()
        gate.reached()
        pair.fail_over()
        gate.open()
        first.join()
        assert post(app).headers["Idempotent-Replayed"] == "true"
        assert runs == ["run"]
        assert len(pair.replica.client.keys()) == 1
        assert state_of(app).engine.store._client._pool.generation == 1

    def test_dropped_once_by_all(
        self, pair: Pair, store: RedisStore, background: Callable[..., Future[object]]
    ) -> None:
        """Of many requests none fails, and the connections are dropped once, not by each."""
        together = threading.Barrier(8)

        def work(number: int) -> list[object]:
            together.wait()
            return [claim(store, key=f"{KEY}{number}-{turn}") for turn in range(5)]

        for _ in range(2):
            claims = [background(work, number) for number in range(8)]
            assert {reply for future in claims for reply in future.result()} == {Claimed(1)}
            if store._client._pool.generation == 0:
                pair.fail_over()
                pair.replica.client.flushall()
        assert store._client._pool.generation == 1

    def test_subscriber_follows(self, pair: Pair, store: RedisStore) -> None:
        """So does the connection that waiters are woken by, once a waiter has looked."""
        claim(store)
        with store.listen(KEY, 5) as waiter:
            pair.fail_over()
            # The demoted one hears of nothing: else its connections would be told all the same.
            pair.primary.client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
            (channel,) = store._subscriber._channels.values()
            claim(store, "bob")
            until(lambda: pair.replica.client.pubsub_channels() and channel.confirmed.is_set())
            # Whoever listens looks again, because it may have missed something meanwhile.
            assert waiter.wait(5) is None
            other = RedisStore(Client.from_url(pair.replica.url))
            assert other.complete(KEY, answer(), ttl_ms=HOUR) is Completion.STORED
            assert waiter.wait(5) == answer()
            other.close()

    def test_address_that_stays(self, pair: Pair, store: RedisStore) -> None:
        """Where the address still leads to the demoted one, it replays, and refuses the rest."""
        claim(store)
        store.complete(KEY, answer(), ttl_ms=HOUR)
        pair.fail_over()
        pair.address.target = pair.primary.port
        for _ in range(10):
            assert claim(store, "bob") == answer()
            with pytest.raises(WriteRefused) as caught:
                claim(store, key=KEY + "2")
            assert caught.value.sent is False
        assert store._client._pool.generation <= 2
        pair.address.target = pair.replica.port
        until(lambda: succeeds(lambda: claim(store, key=KEY + "2")), 2)


def succeeds(act: Callable[[], object]) -> bool:
    try:
        act()
    except StoreError:
        return False
    return True


class _Scripted(socketserver.ThreadingTCPServer):
    """A server each of whose connections answers every command with what a test says."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.greeted = 0
        super().__init__(("127.0.0.1", 0), _Connection)

    @property
    def url(self) -> str:
        return f"redis://:secret@127.0.0.1:{self.server_address[1]}/0"


class _Connection(socketserver.StreamRequestHandler):
    server: _Scripted

    def handle(self) -> None:
        number, self.server.greeted = self.server.greeted, self.server.greeted + 1
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:-2])
            reply = self.server.answers[min(number, len(self.server.answers) - 1)]
            if words[0] == b"CLIENT" or (words[0] == b"AUTH" and not reply.startswith(b"-WRONG")):
                reply = b"+OK"
            self.wfile.write(reply + b"\r\n")


@pytest.fixture
def scripted() -> Iterator[Callable[..., _Scripted]]:
    made = []

    def make(*answers: bytes) -> _Scripted:
        server = _Scripted(*answers)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        made.append((server, thread))
        return server

    yield make
    for server, thread in made:
        server.shutdown()
        server.server_close()
        thread.join()


TURNED_AWAY = [
    b"-LOADING Redis is loading the dataset in memory",
    b"-NOAUTH Authentication required.",
    b"-WRONGPASS invalid username-password pair or user is disabled.",
    b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    b"-READONLY You can't write against a read only replica.",
]


@pytest.mark.parametrize("refusal", TURNED_AWAY)
class TestTurnedAway:
    """Answers that mean: this connection is the wrong one, and nothing was carried out."""

    def test_another_connection_serves(
        self, scripted: Callable[..., _Scripted], refusal: bytes
    ) -> None:
        """The command is sent once more, on a new connection."""
        server = scripted(refusal, b"+PONG")
        client = Client.from_url(server.url)
        assert client.execute("PING") == b"PONG"
        assert server.greeted == 2
        client.close()

    def test_the_same_again(self, scripted: Callable[..., _Scripted], refusal: bytes) -> None:
        """The same answer again is an error, and the command is known not to be carried out."""
        server = scripted(refusal)
        client = Client.from_url(server.url)
        with pytest.raises(StoreError) as caught:
            client.execute("PING")
        assert caught.value.sent is False
        assert isinstance(caught.value, WriteRefused) is refusal.startswith(b"-READONLY")
        assert server.greeted == 2
        client.close()

    def test_every_command_of_a_batch(
        self, scripted: Callable[..., _Scripted], refusal: bytes
    ) -> None:
        """Commands that travel together are refused together, and leave nothing behind."""
        server = scripted(refusal, refusal, b"+PONG")
        client = Client.from_url(server.url)
        replies = client.execute_many([("PING",)] * 3)
        assert [isinstance(reply, StoreError) for reply in replies] == [True] * 3
        # What is not answered by then must not be taken for the answer to what comes next.
        client.close()
        assert client.execute_many([("PING",)] * 3) == [b"PONG"] * 3
        client.close()


class TestLoading:
    def test_is_over(self, scripted: Callable[..., _Scripted]) -> None:
        """A connection that was told of it is of no use to the next command, which has its own."""
        server = scripted(TURNED_AWAY[0])
        client = Client.from_url(server.url)
        with pytest.raises(StoreUnavailable):
            client.execute("PING")
        server.answers[:] = [b"+PONG"]
        assert client.execute("PING") == b"PONG"
        client.close()


class TestDoubt:
    def test_first_sending_was_lost(
        self, proxy: Proxy, clean_valkey: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A refusal of the second sending says nothing of the first, whose reply was lost."""
        monkeypatch.setattr(_timing, "RESEND_WITHIN", 10.0)
        client = Client.from_url(proxy.url)
        client.execute("PING")
        proxy.faults.append(Fault(b"first", "lose reply"))
        proxy.faults.append(Fault(b"first", "refuse", reply=TURNED_AWAY[-1] + b"\r\n", times=9))
        with pytest.raises(WriteRefused) as caught:
            client.execute("SET", "first", "1")
        assert caught.value.sent is True
        assert clean_valkey.client.get("first") == b"1"
        client.close()


class TestForgottenFlows:
    """A NAT or a firewall forgets an idle flow: what is sent on it gets lost without a word."""

    @pytest.mark.parametrize(("option", "seconds"), [("", 60), ("?health_check_interval=20", 20)])
    def test_no_request_notices(self, proxy: Proxy, option: str, seconds: int) -> None:
        """A request after an idle minute, or the address's own interval, is served at once."""
        now = [0.0]
        client = Client.from_url(proxy.url + option, clock=lambda: now[0])
        app = Flask("tests")
        Idempotent(app, store=RedisStore(client))
        app.add_url_rule("/", "view", lambda: "done", methods=["POST"])
        post(app, "before")
        proxy.forget_flows()
        now[0] += seconds
        started = time.monotonic()
        assert post(app, "after").status_code == 200
        assert time.monotonic() - started < _timing.REPLY_TIMEOUT
        state_of(app).engine.close()

    def test_keepalive_counts_in_seconds(self, proxy: Proxy) -> None:
        """The system asks an idle peer for a sign of life after half a minute, not two hours."""
        client = Client.from_url(proxy.url)
        client.execute("PING")
        (pooled,) = client._pool._idle
        sock = pooled.connection._sock
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            values = [
                sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            ]
            assert values == [30, 10, 3]
        client.close()
