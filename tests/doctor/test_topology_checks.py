"""The doctor's checks of replicas, Sentinel and Cluster."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

import pytest

from flask_idempotent.doctor import server_checks, topology_checks
from flask_idempotent.doctor.findings import Finding
from flask_idempotent.stores.base import Store
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.memory import MemoryStore
from tests.doctor.test_server_checks import GOOD, refused
from tests.support.fake_sentinels import FakeSentinel
from tests.support.redis_servers import Server

ONLINE = "ip=10.0.0.{0},port=6379,state=online,offset=90,lag=1"
NODE = {"topology": "cluster", "cluster_enabled": "1", "cluster_slots_ok": "16384",
        "cluster_size": "3", "cluster-require-full-coverage": "no"}  # fmt: skip


def server(number: int, replicas: int = 0, **facts: str) -> dict[str, str]:
    """The facts of a primary with replicas that follow it."""
    lines = {f"slave{n}": ONLINE.format(n) for n in range(replicas)}
    address = {"address": f"redis://one:{number}/0", "master_repl_offset": "100"}
    return GOOD | lines | address | facts


def levels(findings: Iterable[Finding]) -> dict[str, str]:
    return {finding.check: str(finding.level) for finding in findings}


class TestAsked:
    def test_one_server(self) -> None:
        """What the address says is not repeated."""
        assert list(topology_checks.asked([server(1)])) == []

    def test_sentinel(self) -> None:
        """The primary is named that the Sentinels name."""
        (finding,) = topology_checks.asked([server(7, topology="sentinel")])
        assert finding.text == "The Sentinels name redis://one:7/0 as the primary."

    def test_real_primary(self, clean_valkey: Server) -> None:
        """The address is that of the server to which the Sentinels have led."""
        with closing(FakeSentinel(clean_valkey.port)) as sentinel:
            store = open_store(f"redis+sentinel://127.0.0.1:{sentinel.port}/shop", "tests")
            (finding,) = topology_checks.asked(store.facts())
            store.close()
        assert f"name redis://127.0.0.1:{clean_valkey.port}/0 as the primary" in finding.text

    def test_node_that_is_dead(self) -> None:
        """A node that does not answer is named, and what follows for its keys."""
        dead = {"address": "redis://one:2/0", "topology": "cluster", "failure": "Timeout."}
        first, second = topology_checks.asked([server(1, **NODE), dead])
        assert first.text == "The primaries of the cluster are redis://one:1/0, redis://one:2/0."
        assert second.level == "error"
        assert second.text.startswith("redis://one:2/0 does not answer: Timeout. Requests whose")


class TestCluster:
    @pytest.mark.parametrize(
        ("facts", "level", "word"),
        [
            ({"topology": "server"}, "error", "other nodes have a part of the slots"),
            ({"topology": "sentinel"}, "error", "other nodes have a part of the slots"),
            ({"topology": "server", "cluster_size": "1"}, "note", "only node"),
            ({"cluster_slots_ok": "16000"}, "error", "384 of the cluster's 16384 slots"),
            ({"cluster-require-full-coverage": "yes"}, "warning", "those of the other primaries"),
        ],
    )
    def test_wrong(self, facts: dict[str, str], level: str, word: str) -> None:
        """A node used as a single server, uncovered slots, and one shard that stops all."""
        (finding,) = topology_checks.cluster(server(1, **(NODE | facts)))
        assert (finding.level, word in finding.text) == (level, True)
        assert finding.fix

    def test_right(self) -> None:
        """A whole cluster, and a server that is none, have nothing wrong."""
        assert list(topology_checks.cluster(server(1, **NODE))) == []
        assert list(topology_checks.cluster(server(1))) == []


class TestReplication:
    def test_lag(self) -> None:
        """Each replica is named, with the bytes and the seconds that it is behind."""
        copied = {"slave1": "ip=10.0.0.9,port=6379,state=send_bulk,offset=0,lag=0"}
        (finding,) = topology_checks.replication(server(1, replicas=1) | copied)
        assert "10.0.0.0:6379 is 10 bytes behind and confirmed something 1 s ago" in finding.text
        assert "10.0.0.9:6379 is being copied to" in finding.text
        assert "min_replicas=1" in finding.fix


class TestMinReplicas:
    @pytest.mark.parametrize(
        ("replicas", "level"),
        [((2, 2), "ok"), ((2, 1), "warning"), ((1, 1), "warning"), ((2, 0), "error")],
    )
    def test_one_to_spare(self, replicas: tuple[int, int], level: str) -> None:
        """Each primary needs one replica more than ``min_replicas``, to go on after a failover."""
        servers = [server(number, each) for number, each in enumerate(replicas)]
        (finding,) = topology_checks.replicas(servers, 1)
        assert finding.level == level
        assert level == "ok" or f"redis://one:1/0 has {replicas[1]}" in finding.text

    def test_not_wanted(self) -> None:
        """Without ``min_replicas`` nobody counts replicas."""
        assert list(topology_checks.replicas([server(1)], 0)) == []

    def test_not_reported(self) -> None:
        """Where a server does not report its role, nothing is claimed about its replicas."""
        assert list(topology_checks.replicas([{"address": "redis://one/0"}], 1)) == []

    def test_memory(self) -> None:
        """A store without replicas that ignores the setting is a note."""
        (finding,) = server_checks.examine(MemoryStore(), "IDEMPOTENT_", min_replicas=1)
        assert (finding.check, finding.level) == ("min_replicas", "note")

    def test_own_store(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A store that refuses the setting is an error."""
        monkeypatch.setattr(MemoryStore, "confirmed_by", Store.confirmed_by)
        (finding,) = server_checks.examine(MemoryStore(), "IDEMPOTENT_", min_replicas=1)
        assert (finding.check, finding.level) == ("min_replicas", "error")
        assert "MemoryStore has none" in finding.text


class TestEachServer:
    def test_what_all_have_is_said_once(self) -> None:
        """A finding of all servers is said once, one of some names them."""
        servers = [server(1), server(2), server(3, aof_enabled="0", save="")]
        found = list(server_checks.of_servers(servers, 0))
        assert levels(found)["version"] == "ok"
        texts = [finding.text for finding in found if finding.check == "persistence"]
        assert [text.partition(": ")[0] for text in texts] == [
            "redis://one:1/0, redis://one:2/0",
            "redis://one:3/0",
        ]

    def test_node_of_a_cluster(self) -> None:
        """What a cluster's node answers about others' keys is not explained with permissions."""
        for message in ("MOVED 5 one:2", "CLUSTERDOWN Hash slot not served"):
            assert "redis+cluster://" in refused(message).fix
