"""Waiting in a cluster: which node a channel is subscribed at, and what ends a subscription."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from flask_idempotent import _timing
from flask_idempotent.stores.redis.store import RedisStore
from flask_idempotent.stores.waiters import Waiter
from tests.stores.harness import HOUR, answer, running
from tests.stores.redis.helpers import KEY, claim, opened
from tests.support.pauses import within
from tests.support.polling import until
from tests.support.proxy import EVER, Fault
from tests.support.redis_fleets import SLOTS, Cluster, ClusterNode
from tests.support.shown_cluster import ShownCluster

_SUBSCRIBE = b"$10\r\nSSUBSCRIBE\r\n"


@pytest.fixture
def other(valkey_cluster: Cluster) -> Iterator[RedisStore]:
    """The store of another process."""
    with opened(valkey_cluster.url) as store:
        yield store


def complete(store: RedisStore, key: str = KEY) -> None:
    store.complete(key, answer(), ttl_ms=HOUR)


def receives(waiter: Waiter) -> bool:
    """Whether a message comes; the waiter may be woken to look for itself before."""
    return waiter.wait(2) == answer()


def listens(store: RedisStore) -> bool:
    """Whether the subscription is confirmed, and the waiters have been woken to look."""
    (channel,) = store._subscriber._channels.values()
    return channel.confirmed.is_set() and not channel.unconfirmed


class TestAnswers:
    """What follows a node's answer to SSUBSCRIBE."""

    def test_moved(self, shown: ShownCluster, store: RedisStore, other: RedisStore) -> None:
        """MOVED: the channel is subscribed to at the other node, without a new connection."""
        claim(store)
        moved = f"-MOVED {shown.slot} 127.0.0.1:{shown.second.port}\r\n".encode()
        shown.first.faults.append(Fault(_SUBSCRIBE, "refuse", times=EVER, reply=moved))
        with store.listen(KEY, 5) as waiter:
            assert not waiter.may_have_missed
            complete(other)
            until(lambda: receives(waiter))
        assert "refuse" in shown.first.happened

    @pytest.mark.parametrize(
        "refusal",
        ["ASK 1 127.0.0.1:1", "TRYAGAIN later", "CLUSTERDOWN no", "LOADING no", "MASTERDOWN no"],
    )
    def test_other_refusals(
        self, shown: ShownCluster, store: RedisStore, other: RedisStore, refusal: str
    ) -> None:
        """Any other refusal: the waiter polls, and the connection is opened again."""
        claim(store)
        reply = f"-{refusal}\r\n".encode()
        shown.first.faults.append(Fault(_SUBSCRIBE, "refuse", reply=reply))
        with store.listen(KEY, 5) as waiter:
            assert not waiter.may_have_missed
            complete(other)
            until(lambda: receives(waiter))

    def test_connection_is_lost(
        self, shown: ShownCluster, store: RedisStore, other: RedisStore
    ) -> None:
        """A lost connection wakes the waiters to look, and is opened again."""
        claim(store)
        with store.listen(KEY, 5) as waiter:
            shown.first.cut_all()
            assert waiter.wait(5) is None
            until(lambda: listens(store))
            complete(other)
            until(lambda: receives(waiter))

    def test_node_is_gone(
        self,
        shown: ShownCluster,
        store: RedisStore,
        other: RedisStore,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A node is gone: once the map says who has its slots, the waiters listen there."""
        monkeypatch.setattr(_timing, "SLOTS_EVERY", 0.0)
        claim(store)
        with store.listen(KEY, 5) as waiter:
            shown.show((0, SLOTS - 1, shown.second.port))
            shown.first.close()
            store.read(KEY)
            until(lambda: waiter.notified and listens(store))
            complete(other)
            until(lambda: receives(waiter))

    def test_slot_that_nobody_has(
        self, shown: ShownCluster, store: RedisStore, other: RedisStore
    ) -> None:
        """A channel whose slot nobody has is looked for again, and then subscribed to."""
        shown.show((0, shown.slot - 1, shown.first.port))
        with store.listen(KEY, 0.05) as waiter:
            assert waiter.may_have_missed
            shown.show((0, SLOTS - 1, shown.first.port))
            until(lambda: waiter.notified and listens(store))
            complete(other)
            until(lambda: receives(waiter))


class TestConnections:
    def test_one_for_each_node(self, valkey_cluster: Cluster, real_store: RedisStore) -> None:
        """One thread, and one connection to each node on which somebody waits."""
        keys = [f"IDEMPOTENT_{{{number}}}" for number in range(30)]
        with ExitStack() as stack:
            for key in keys:
                assert not stack.enter_context(real_store.listen(key, 5)).may_have_missed
            names = [thread.name for thread in threading.enumerate()]
            assert names.count("flask-idempotent-subscriber") == 1
            assert [subscribers(node) for node in valkey_cluster.primaries()] == [1, 1, 1]
            assert sorted(channels(valkey_cluster)) == sorted(f"{key}@0" for key in keys)
        until(lambda: channels(valkey_cluster) == [])

    def test_unused(
        self, valkey_cluster: Cluster, real_store: RedisStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A connection to a node on which nobody waits any more is closed after a while."""
        monkeypatch.setattr(_timing, "SUBSCRIBER_PING_AFTER", 0.1)
        keys = [f"IDEMPOTENT_{{{number}}}" for number in range(9)]
        with real_store.listen(keys[0], 5):
            with ExitStack() as stack:
                for key in keys[1:]:
                    stack.enter_context(real_store.listen(key, 5))
            nodes = valkey_cluster.primaries()
            until(lambda: sum(map(connections, nodes)) == 1)
        complete(real_store, keys[0])

    def test_silent_node(
        self, valkey_cluster: Cluster, real_store: RedisStore, other: RedisStore
    ) -> None:
        """A node that is silent, also while it is connected to, delays no message of the others."""
        silent, *_ = valkey_cluster.primaries()
        keys = [f"IDEMPOTENT_{{{number}}}" for number in range(30)]
        nodes = {key: valkey_cluster.node_of(key) for key in keys}
        (lost, *_), (near, *_) = [
            [key for key in keys if (nodes[key] is silent) is at_silent]
            for at_silent in (True, False)
        ]
        claim(real_store, key=near)
        claim(other, key=near)
        silent.signal(signal.SIGSTOP)
        try:
            with real_store.listen(lost, 0.05) as missing, real_store.listen(near, 5) as waiter:
                assert missing.may_have_missed
                with within(_timing.REPLY_TIMEOUT):
                    complete(other, near)
                    assert waiter.wait(5) == answer()
        finally:
            silent.signal(signal.SIGCONT)

    def test_no_message_on_the_bus(
        self, valkey_cluster: Cluster, real_store: RedisStore, other: RedisStore
    ) -> None:
        """Each way to wake a waiter publishes to the nodes of the slot alone."""
        valkey_cluster.reset_counts()
        for number, wake in enumerate(WAKING):
            key = f"IDEMPOTENT_{{{number}}}"
            claim(real_store, key=key)
            with real_store.listen(key, 5) as waiter:
                wake(other, key)
                until(lambda waiter=waiter: waiter.notified)
        counts = valkey_cluster.counts()
        assert counts["spublish"] == len(WAKING)
        assert "publish" not in counts


WAKING = (
    complete,
    lambda store, key: store.release(
        key, running().owner, response_ttl_ms=HOUR, tombstone_ttl_ms=HOUR
    ),
    lambda store, key: store.delete([key]),
    lambda store, key: store.discard(list(store.inspect([key]))),
)


def channels(cluster: Cluster) -> list[str]:
    return [name for node in cluster.primaries() for name in node.ask("PUBSUB", "SHARDCHANNELS")]


def connections(node: ClusterNode) -> int:
    """How many connections for pub/sub a node has, also those without a channel."""
    commands = ("ssubscribe", "sunsubscribe", "ping")
    clients = node.client.client_list()
    return sum(client["cmd"] in commands for client in clients)


def subscribers(node: ClusterNode) -> int:
    return len(node.client.client_list(_type="pubsub"))
