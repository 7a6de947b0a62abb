"""What operators use on a cluster: the commands, the doctor, and ``min_replicas``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from flask import Flask

from flask_idempotent.cli.poller import RecordPoller
from flask_idempotent.doctor import server_checks
from flask_idempotent.record_format import decode
from flask_idempotent.stores.base import Claimed, Completion
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.redis.store import RedisStore
from tests.cli.harness import claim, complete, document, name, run, store_of
from tests.conftest import MakeApp
from tests.stores.harness import HOUR, answer, running
from tests.support.redis_fleets import Cluster

ROOT = Path(__file__).parents[4]
PAGES = ("stores.md", "command-line.md")


@pytest.fixture
def app(valkey_cluster: Cluster, make_app: MakeApp) -> Flask:
    valkey_cluster.flush()
    return make_app(store=open_store(valkey_cluster.url, "tests"))


def key_of_each_node(cluster: Cluster) -> list[str]:
    """A client's key for each primary that has its record."""
    keys = {cluster.node_of(name(key)).port: key for key in map(str, range(12))}
    assert len(keys) == 3
    return list(keys.values())


class TestCommands:
    def test_every_node(self, app: Flask, valkey_cluster: Cluster) -> None:
        """Commands list, count, show, watch, release and delete records on whichever node."""
        first, second, third = key_of_each_node(valkey_cluster)
        poller = RecordPoller(store_of(app), "IDEMPOTENT_")
        assert poller.poll() == []
        records = [complete(app, first), complete(app, second), claim(app, third)]
        listed = document(app, "list")
        assert {record["storage_key"] for record in listed} == set(records)
        assert {change.storage_key for change in poller.poll()} == set(records)
        assert document(app, "stats")["completed"] == 2
        assert document(app, "show", third)["state"] == "in progress"
        assert run(app, "release", third, "--even", "running", "--yes").exit_code == 0
        assert document(app, "purge", "--all", "--yes")["deleted"] == 2
        assert run(app, "show", first).exit_code != 0


class TestDoctor:
    def test_cluster(self, real_store: RedisStore, valkey_cluster: Cluster) -> None:
        """The primaries are named, and each one's replica with its lag."""
        found = list(server_checks.examine(real_store, "IDEMPOTENT_", min_replicas=1))
        texts = {finding.check: finding.text for finding in found}
        for node in valkey_cluster.primaries():
            assert f"127.0.0.1:{node.port}" in texts["topology"]
            replica = valkey_cluster.replica_of(node)
            assert any(f"127.0.0.1:{replica.port} is " in finding.text for finding in found)
        levels = {finding.check: finding.level for finding in found}
        assert levels["writing"] == "ok"
        assert levels["min_replicas"] == "warning"
        # What is found of all nodes is said once.
        assert [finding.check for finding in found].count("version") == 1

    def test_one_node(self, valkey_cluster: Cluster) -> None:
        """A node that is given as ``redis://`` is an error, whichever keys it has itself."""
        for node in valkey_cluster.primaries():
            store = open_store(node.url, "tests")
            found = list(server_checks.examine(store, "IDEMPOTENT_"))
            store.close()
            (finding,) = [finding for finding in found if finding.check == "cluster"]
            assert finding.level == "error"
            assert "redis+cluster://" in finding.fix
            writing = next(finding for finding in found if finding.check == "writing")
            assert writing.level == "ok" or "redis+cluster://" in writing.fix


class TestMinReplicas:
    def test_each_shard(self, real_store: RedisStore, valkey_cluster: Cluster) -> None:
        """A claim and a response are on the replica of the node that has their key."""
        confirmed = real_store.confirmed_by(1)
        for key in map(name, key_of_each_node(valkey_cluster)):
            replica = valkey_cluster.replica_of(valkey_cluster.node_of(key))
            assert confirmed.claim(key, running(), ttl_ms=2 * HOUR) == Claimed(1)
            replica.client.execute_command("READONLY")
            assert decode(replica.client.get(key)) == running()
            assert confirmed.complete(key, answer(), ttl_ms=HOUR) is Completion.STORED
            assert decode(replica.client.get(key)) == answer()


def test_permissions(app: Flask, valkey_cluster: Cluster, make_app: MakeApp) -> None:
    """What the docs say that an application and an operator need is enough on a cluster."""
    stores, commands = ((ROOT / "docs" / name).read_text() for name in PAGES)
    user = re.findall(r"^ACL SETUSER shop .*?(?=^```)", stores, re.DOTALL | re.MULTILINE)[1]
    rights = ("\n" + commands.partition("an operator's user needs:")[2]).split("```")[1]
    rules = [*user.split(), *rights.removeprefix("text").split(), "+wait"]
    rules += ["+pubsub|shardnumsub", "+cluster|info"]
    for node in valkey_cluster.nodes:
        node.ask(*rules)
        node.ask("ACL", "LOG", "RESET")
    try:
        claim(app, "k")
        url = valkey_cluster.url.replace("//", "//shop:password@")
        operator = make_app(store=open_store(url, "tests"))
        assert document(operator, "show", "k")["waiters"] == 0
        levels = {finding["check"]: finding["level"] for finding in checked(operator)}
        assert (levels["writing"], levels["replication"]) == ("ok", "note")
        assert document(operator, "purge", "--all", "--yes", "--even-running")["deleted"] == 1
        assert not any(node.ask("ACL", "LOG") for node in valkey_cluster.nodes)
    finally:
        for node in valkey_cluster.nodes:
            node.ask("ACL", "DELUSER", "shop")


def checked(app: Flask) -> list[dict[str, str]]:
    """What the doctor finds."""
    findings: list[dict[str, str]] = json.loads(run(app, "doctor", "--json").stdout)
    return findings
