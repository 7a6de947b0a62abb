"""Several real servers that work together: a cluster of six nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from tests.support.polling import until
from tests.support.redis_servers import Server, free_port

SLOTS = 16384
#: Seconds after which the nodes believe that one is dead: long, so that a busy machine makes no
#: failover. ``Cluster.watch_closely`` shortens it.
_NODE_TIMEOUT = 15.0

_CLUSTER_OPTIONS = (
    "--cluster-enabled", "yes",
    "--cluster-node-timeout", str(round(_NODE_TIMEOUT * 1000)),
    "--cluster-require-full-coverage", "no",
    "--cluster-allow-replica-migration", "no",
    "--cluster-replica-validity-factor", "0",
    # Without a disk a replica that has its copy may get no new writes for another second.
    "--repl-diskless-sync", "no",
)  # fmt: skip


class ClusterNode(Server):
    """One node of a cluster."""

    def __init__(self, binary: str, folder: Path, *options: str) -> None:
        folder.mkdir()
        self.bus_port = free_port()
        ours = (*_CLUSTER_OPTIONS, "--cluster-port", str(self.bus_port))
        super().__init__(binary, folder, *ours, *options)

    def ask(self, *command: object) -> Any:
        """Send a command; its reply is not parsed, which redis-py's releases do differently."""
        with redis.Redis(port=self.port, protocol=2, decode_responses=True) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER", "MYID"))

    @property
    def cluster_info(self) -> dict[str, str]:
        """What ``CLUSTER INFO`` says."""
        return dict(line.split(":", 1) for line in self.ask("CLUSTER", "INFO").split())

    def knows(self, ids: set[str]) -> bool:
        """Whether these are all nodes that it knows; until it has met one, its id is made up."""
        return {line.split(" ", 1)[0] for line in self.ask("CLUSTER", "NODES").splitlines()} == ids

    @property
    def is_primary(self) -> bool:
        return str(self.client.info("replication")["role"]) == "master"

    def serve_all_slots(self) -> None:
        """Make a cluster of this node alone."""
        self.ask("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        until(lambda: self.cluster_info["cluster_state"] == "ok")

    def slots(self) -> list[tuple[int, int]]:
        """The ranges of slots that this node itself says it has."""
        slots = self.ask("CLUSTER", "SLOTS")
        return [(first, last) for first, last, primary, *_ in slots if primary[1] == self.port]


class Cluster:
    """Primaries that share the slots, each with a replica.

    :param binary: the server's program.
    :param folder: where the nodes keep their files.
    :param options: more options of the nodes.
    """

    def __init__(
        self,
        binary: str,
        folder: Path,
        *options: str,
        primaries: int = 3,
        with_replicas: bool = True,
    ) -> None:
        self._primaries = primaries
        count = 2 * primaries if with_replicas else primaries
        self.nodes = [ClusterNode(binary, folder / str(n), *options) for n in range(count)]

    @property
    def url(self) -> str:
        """An address that names two of the nodes."""
        seeds = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])
        return f"redis+cluster://{seeds}"

    def start(self) -> Cluster:
        for node in self.nodes:
            node.start()
        count = self._primaries
        primaries, replicas = self.nodes[:count], self.nodes[count:]
        bounds = [SLOTS * number // count for number in range(count + 1)]
        for number, node in enumerate(primaries):
            first, last = bounds[number], bounds[number + 1] - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
        for number, node in enumerate(self.nodes, 1):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number)
            # What nodes tell each other about third ones takes seconds, on a busy machine many.
            for other in self.nodes[: number - 1]:
                self._meet(node, other)
        ids = {node.id for node in self.nodes}
        until(lambda: all(node.knows(ids) for node in self.nodes))
        for primary, replica in zip(primaries, replicas, strict=False):
            replica.ask("CLUSTER", "REPLICATE", primary.id)
        self.until_whole()
        return self

    @staticmethod
    def _meet(node: ClusterNode, other: ClusterNode) -> None:
        node.ask("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus_port)

    def until_whole(self, seconds: float = 20) -> None:
        """Wait until every slot is served and every replica follows its primary."""
        until(lambda: all(map(_is_well, self.nodes)), seconds)

    def primaries(self) -> list[ClusterNode]:
        """The nodes that have slots now."""
        return [node for node in self.nodes if node.is_running and node.is_primary and node.slots()]

    def node_of(self, key: str) -> ClusterNode:
        """The primary that has a key."""
        slot = key_slot(key.encode())
        owners = [
            node
            for node in self.primaries()
            if any(first <= slot <= last for first, last in node.slots())
        ]
        (owner,) = owners
        return owner

    def replica_of(self, primary: ClusterNode) -> ClusterNode:
        """A node that follows a primary."""
        port = primary.port
        return next(
            node
            for node in self.nodes
            if node is not primary and node.client.info("replication").get("master_port") == port
        )

    def flush(self) -> None:
        """Empty every primary."""
        for node in self.nodes:
            with suppress(redis.ReadOnlyError):
                node.client.flushall()

    def counts(self) -> dict[str, int]:
        """How often each command was called, on all primaries together; see ``Server.counts``."""
        total: dict[str, int] = {}
        for node in self.primaries():
            for name, calls in node.counts().items():
                total[name] = total.get(name, 0) + calls
        return total

    def reset_counts(self) -> None:
        for node in self.nodes:
            node.reset_counts()

    def watch_closely(self, seconds: float = 1.0) -> None:
        """Let the nodes believe that one is dead after this time."""
        for node in self.nodes:
            node.client.config_set("cluster-node-timeout", round(seconds * 1000))

    @contextmanager
    def migrating(self, slot: int, target: ClusterNode) -> Iterator[ClusterNode]:
        """Migrate a slot; the keys that are there at the end of the block move too.

        :returns: the node that has the slot until the end of the block.
        """
        (source,) = [
            node
            for node in self.primaries()
            if any(first <= slot <= last for first, last in node.slots())
        ]
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        yield source
        self.move_keys(slot, source, target)
        target_id = target.id
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)

    @staticmethod
    def move_keys(slot: int, source: ClusterNode, target: ClusterNode) -> None:
        """Move the keys of a slot that is being migrated."""
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "REPLACE", "KEYS", *keys)

    def move_slot(self, slot: int, target: ClusterNode) -> None:
        """Migrate a slot with its keys."""
        with self.migrating(slot, target):
            pass

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def _is_well(node: ClusterNode) -> bool:
    try:
        info = node.cluster_info
        replication = node.client.info("replication")
    except redis.RedisError:
        return False
    follows = replication["role"] == "master" or replication["master_link_status"] == "up"
    return info["cluster_state"] == "ok" and info["cluster_slots_ok"] == str(SLOTS) and follows
