"""Connections to demoted servers, moved addresses, and flows that a firewall has dropped."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import pytest
from flask import Flask

from flask_idempotent import Idempotent, _timing
from flask_idempotent.errors import StoreError, WriteRefused
from flask_idempotent.stores.base import Claimed, Completion
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.store import RedisStore
from flask_idempotent.web.state import state_of
from tests.stores.harness import HOUR, answer
from tests.stores.redis.helpers import KEY, claim, contend
from tests.support.clients import Gate, post
from tests.support.pauses import within
from tests.support.polling import until
from tests.support.proxy import Proxy
from tests.support.redis_servers import Server, free_port, valkey_binary


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
    # Without the pause before a replica gets its copy.
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
    # They swap roles with each test.
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


class TestDemotion:
    """The primary is demoted, its connections stay, and the address moves to the promoted one."""

    @pytest.mark.parametrize("ask", [claim, contend])
    def test_served_at_once(
        self, pair: Pair, store: RedisStore, ask: Callable[..., object]
    ) -> None:
        """The next request is served by the promoted server, at once and without an error."""
        claim(store)
        pair.fail_over()
        with within(2):
            assert ask(store, key=KEY + "2") == Claimed(1)
        assert pair.replica.client.exists(KEY + "2")

    def test_claim_is_completed_once(self, pair: Pair, make_app: Any) -> None:
        """A claim that was made before the change is completed on the promoted server."""
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
        assert state_of(app).engine.store._client.nodes()[0].generation == 1

    def test_dropped_once_by_all(
        self, pair: Pair, store: RedisStore, background: Callable[..., Future[object]]
    ) -> None:
        """None of many requests fails, and the connections are dropped once for all of them."""
        together = threading.Barrier(8)

        def work(number: int) -> list[object]:
            together.wait()
            return [claim(store, key=f"{KEY}{number}-{turn}") for turn in range(5)]

        for _ in range(2):
            claims = [background(work, number) for number in range(8)]
            assert {reply for future in claims for reply in future.result()} == {Claimed(1)}
            if store._client.nodes()[0].generation == 0:
                pair.fail_over()
                pair.replica.client.flushall()
        assert store._client.nodes()[0].generation == 1

    def test_subscriber_follows(self, pair: Pair, store: RedisStore) -> None:
        """The pub/sub connection moves too, once a waiter has polled."""
        claim(store)
        with store.listen(KEY, 5) as waiter:
            pair.fail_over()
            # The demoted one does not replicate; messages would reach its subscribers otherwise.
            pair.primary.client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
            (channel,) = store._subscriber._channels.values()
            claim(store, "bob")
            until(lambda: pair.replica.client.pubsub_channels() and channel.confirmed.is_set())
            # The waiter contends again, because it may have missed a message.
            assert waiter.wait(5) is None
            other = RedisStore(Client.from_url(pair.replica.url))
            assert other.complete(KEY, answer(), ttl_ms=HOUR) is Completion.STORED
            assert waiter.wait(5) == answer()
            other.close()

    def test_address_that_stays(self, pair: Pair, store: RedisStore) -> None:
        """If the address still leads to the demoted one, that replays, and refuses the rest."""
        claim(store)
        store.complete(KEY, answer(), ttl_ms=HOUR)
        pair.fail_over()
        pair.address.target = pair.primary.port
        for _ in range(10):
            assert claim(store, "bob") == answer()
            with pytest.raises(WriteRefused) as caught:
                claim(store, key=KEY + "2")
            assert caught.value.sent is False
        assert store._client.nodes()[0].generation <= 2
        pair.address.target = pair.replica.port
        until(lambda: succeeds(lambda: claim(store, key=KEY + "2")), 2)


def succeeds(act: Callable[[], object]) -> bool:
    try:
        act()
    except StoreError:
        return False
    return True


class TestForgottenFlows:
    """A NAT or a firewall has dropped an idle flow: what is sent on it is lost."""

    @pytest.mark.parametrize(("option", "seconds"), [("", 60), ("?health_check_interval=20", 20)])
    def test_no_request_notices(self, proxy: Proxy, option: str, seconds: int) -> None:
        """A request after an idle minute, or after health_check_interval, is served at once."""
        now = [0.0]
        client = Client.from_url(proxy.url + option, clock=lambda: now[0])
        app = Flask("tests")
        Idempotent(app, store=RedisStore(client))
        app.add_url_rule("/", "view", lambda: "done", methods=["POST"])
        post(app, "before")
        proxy.forget_flows()
        now[0] += seconds
        with within(_timing.REPLY_TIMEOUT):
            assert post(app, "after").status_code == 200
        state_of(app).engine.close()

    def test_keepalive_counts_in_seconds(self, proxy: Proxy) -> None:
        """The system probes an idle peer after half a minute, not after two hours."""
        client = Client.from_url(proxy.url)
        client.execute("PING")
        (pooled,) = client.nodes()[0]._pool._idle
        sock = pooled.connection._sock
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            values = [
                sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            ]
            assert values == [30, 10, 3]
        client.close()
