"""Six real nodes: slots that migrate, scripts that are flushed, and a RedisCluster as the store."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import closing

import pytest
from redis import RedisCluster
from redis.cluster import ClusterNode as RedisClusterNode
from redis.crc import key_slot

from flask_idempotent.errors import SettingsError, StoreUnavailable
from flask_idempotent.stores.base import Busy, Claimed, Completion, Renewal, Step, StepResult
from flask_idempotent.stores.factory import adopt_store, open_store
from flask_idempotent.stores.redis.store import RedisStore
from tests.stores.harness import ENDS, HOUR, answer, owner, renewal, running
from tests.stores.redis.helpers import KEY, claim, contend
from tests.support.polling import until
from tests.support.redis_fleets import Cluster

SLOT = key_slot(KEY.encode())


def keys_of_each_node(cluster: Cluster) -> list[str]:
    """A key of each primary."""
    keys = {cluster.node_of(key).port: key for key in map("IDEMPOTENT_{{{}}}".format, range(12))}
    assert len(keys) == 3
    return list(keys.values())


class TestMigration:
    def test_while_a_slot_migrates(self, valkey_cluster: Cluster, real_store: RedisStore) -> None:
        """Each step works before its key has moved, after it has, and after the slot has."""
        claim(real_store)
        source = valkey_cluster.node_of(KEY)
        target = next(node for node in valkey_cluster.primaries() if node is not source)
        with valkey_cluster.migrating(SLOT, target):
            assert claim(real_store, "bob") == running()
            valkey_cluster.move_keys(SLOT, source, target)
            assert claim(real_store, "bob") == running()
            assert isinstance(contend(real_store, "bob"), Busy)
            assert real_store.renew([renewal(KEY, running())], restore_within_ms=HOUR) == [True]
            assert real_store.complete(KEY, answer(), ttl_ms=HOUR) is Completion.STORED
            assert claim(real_store, "bob", KEY + "new") == Claimed(1)
            assert real_store.release(KEY + "new", owner("bob"), **ENDS)
            assert real_store.read(KEY) == answer()
        assert claim(real_store, "bob") == answer()
        assert real_store.delete([KEY]) == 1
        valkey_cluster.move_slot(SLOT, source)

    def test_steps_while_a_slot_migrates(
        self, valkey_cluster: Cluster, real_store: RedisStore
    ) -> None:
        """Steps move with their record; where there are none, nobody takes over meanwhile."""
        other = KEY + "without steps"
        claim(real_store)
        claim(real_store, key=other)
        step = Step("reserve", owner("ada"), 1.5, b"")
        real_store.write_step(KEY, running(), step, ttl_ms=2 * HOUR)
        source = valkey_cluster.node_of(KEY)
        target = next(node for node in valkey_cluster.primaries() if node is not source)
        with valkey_cluster.migrating(SLOT, target):
            valkey_cluster.move_keys(SLOT, source, target)
            written = real_store.write_step(KEY, running(), step, ttl_ms=2 * HOUR)
            assert written is StepResult.WRITTEN
            assert real_store.read_steps(KEY, running().fingerprint) == [step]
            first, second = real_store.inspect([KEY, other])
            assert (first.steps, second.steps) == ({"reserve": "ended"}, {})
            assert isinstance(contend(real_store, "bob", other), Busy)
            lapsed = Renewal(other, running(), running().grace_ms)
            assert real_store.renew([lapsed], restore_within_ms=-1) == [True]
            with pytest.raises(StoreUnavailable, match="migrates"):
                contend(real_store, "bob", other)
        assert contend(real_store, "bob", other) == Claimed(2, 1, running())
        real_store.delete([KEY, other])
        valkey_cluster.move_slot(SLOT, source)

    def test_waiters_follow(self, valkey_cluster: Cluster, real_store: RedisStore) -> None:
        """A slot that has moved wakes its waiters to look, and they listen at the new node."""
        claim(real_store)
        source = valkey_cluster.node_of(KEY)
        target = next(node for node in valkey_cluster.primaries() if node is not source)
        other = open_store(valkey_cluster.url, "tests")
        with closing(other), real_store.listen(KEY, 5) as waiter:
            valkey_cluster.move_slot(SLOT, target)
            assert waiter.wait(5) is None
            until(lambda: target.ask("PUBSUB", "SHARDCHANNELS"))
            (channel,) = real_store._subscriber._channels.values()
            until(lambda: not channel.unconfirmed)
            waiter.wait(0)
            other.complete(KEY, answer(), ttl_ms=HOUR)
            assert waiter.wait(5) == answer()
        valkey_cluster.move_slot(SLOT, source)


class TestScripts:
    def test_flushed_on_one_node(self, valkey_cluster: Cluster, real_store: RedisStore) -> None:
        """A node that has lost the scripts gets them again, and only its calls are sent again."""
        keys = keys_of_each_node(valkey_cluster)
        for key in keys:
            claim(real_store, key=key)
            real_store.complete(key, answer(), ttl_ms=HOUR)
        infos = list(real_store.inspect(keys))
        assert real_store.discard(infos) == 3
        for key in keys:
            claim(real_store, key=key)
        infos = list(real_store.inspect(keys))
        valkey_cluster.node_of(keys[0]).client.script_flush()
        assert real_store.discard(infos) == 3


class TestClocks:
    def test_asked_of_each_node(self, valkey_cluster: Cluster, real_store: RedisStore) -> None:
        """Renewals ask the clock of each node that has one of the keys, once."""
        keys = keys_of_each_node(valkey_cluster)
        for key in keys:
            claim(real_store, key=key)
        valkey_cluster.reset_counts()
        renewals = [renewal(key, running()) for key in [*keys, *keys]]
        assert real_store.renew(renewals, restore_within_ms=HOUR) == [True] * 6
        # One more TIME is the script's, where a record is gone.
        assert [node.counts().get("time") for node in valkey_cluster.primaries()] == [1, 1, 1]


class TestCost:
    def test_first_request(self, valkey_cluster: Cluster, real_store: RedisStore) -> None:
        """A first request costs two commands, a replay one, at the node that has the key alone."""
        claim(real_store)
        real_store.complete(KEY, answer(), ttl_ms=HOUR)
        valkey_cluster.reset_counts()
        claim(real_store, key=KEY + "2")
        real_store.complete(KEY + "2", answer(), ttl_ms=HOUR)
        claim(real_store, "bob", KEY + "2")
        counts = valkey_cluster.counts()
        counts = {name: counts.get(name, 0) for name in ("set", "evalsha", "get", "spublish")}
        # The script for a completion calls GET, SET and SPUBLISH itself.
        assert counts == {"set": 3, "evalsha": 1, "get": 1, "spublish": 1}

    def test_waking(self, valkey_cluster: Cluster, real_store: RedisStore) -> None:
        """Half of the waiters are woken within 50 ms of the completion in another process."""
        times = []
        with closing(open_store(valkey_cluster.url, "tests")) as other:
            for number in range(20):
                key = f"IDEMPOTENT_{{{number}}}"
                claim(real_store, key=key)
                with real_store.listen(key, 5) as waiter:
                    began = time.monotonic()
                    other.complete(key, answer(), ttl_ms=HOUR)
                    assert waiter.wait(5) == answer()
                    times.append(time.monotonic() - began)
        assert statistics.median(times) < 0.05


class TestForks:
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_child_has_its_own(self, valkey_cluster: Cluster, real_store: RedisStore) -> None:
        """A forked child claims and waits over connections and threads of its own."""
        claim(real_store)
        with real_store.listen(KEY, 5):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    with real_store.listen(KEY, 5) as waiter:
                        other = open_store(valkey_cluster.url, "tests")
                        other.complete(KEY, answer(), ttl_ms=HOUR)
                        code = 0 if waiter.wait(5) == claim(real_store, "bob") == answer() else 2
                finally:
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0
            assert claim(real_store, "bob") == answer()


class TestAdopting:
    def test_addresses_and_credentials(self, valkey_cluster: Cluster) -> None:
        """Of a RedisCluster, addresses and credentials are taken."""
        for node in valkey_cluster.nodes:
            node.ask("ACL", "SETUSER", "shop", "on", ">pw", "~*", "&*", "+@all")
        port = valkey_cluster.nodes[0].port
        with RedisCluster(host="127.0.0.1", port=port, username="shop", password="pw") as client:
            store = adopt_store(client)
        with closing(store):
            assert claim(store) is not None
            used = [c["user"] for n in valkey_cluster.nodes for c in n.client.client_list()]
            assert "shop" in used
            assert "pw" not in str(store) + repr(store)
        for node in valkey_cluster.nodes:
            node.ask("ACL", "DELUSER", "shop")

    def test_remapped_addresses(self, valkey_cluster: Cluster) -> None:
        """What its ``address_remap`` says of a node's address is believed."""
        asked = []

        def remap(place: tuple[str, int]) -> tuple[str, int]:
            asked.append(place)
            return "localhost", place[1]

        seeds = [RedisClusterNode("127.0.0.1", valkey_cluster.nodes[0].port)]
        with RedisCluster(startup_nodes=seeds, address_remap=remap) as client:
            store = adopt_store(client)
        asked.clear()
        with closing(store):
            claim(store)
            assert len(set(asked)) == 3
            assert [str(node) for node in store._client.nodes()] == [
                f"redis://localhost:{port}/0" for _, port in dict.fromkeys(asked)
            ]

    def test_database(self) -> None:
        """A cluster has one database only, and an address says so."""
        with pytest.raises(SettingsError, match="only database 0"):
            open_store("redis+cluster://localhost/1", "tests")


class TestOperators:
    def test_facts_of_each_node(self, valkey_cluster: Cluster, real_store: RedisStore) -> None:
        """Each primary says what it is, and whether all slots are covered."""
        facts = real_store.facts()
        ports = {node.port for node in valkey_cluster.primaries()}
        assert {each["address"] for each in facts} == {f"redis://127.0.0.1:{p}/0" for p in ports}
        for each in facts:
            assert (each["role"], each["cluster_slots_ok"]) == ("master", "16384")
            assert each["cluster-require-full-coverage"] == "no"

    def test_waiters_of_each_node(self, valkey_cluster: Cluster, real_store: RedisStore) -> None:
        """Waiters are counted at the node that has their channel."""
        keys = keys_of_each_node(valkey_cluster)
        for key in keys:
            claim(real_store, key=key)
        with real_store.listen(keys[0], 5), real_store.listen(keys[1], 5):
            infos = {info.storage_key: info.waiters for info in real_store.inspect(keys)}
        assert infos == {keys[0]: 1, keys[1]: 1, keys[2]: 0}
