"""Commands and scripts, each sent to the server that has its key."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from flask_idempotent.stores.redis.clients import topology_of
from flask_idempotent.stores.redis.cluster import Cluster
from flask_idempotent.stores.redis.commands import Command, Script, decode_name, pack
from flask_idempotent.stores.redis.fleet_addresses import (
    ClusterAddress,
    SentinelAddress,
    read_address,
)
from flask_idempotent.stores.redis.node import Node
from flask_idempotent.stores.redis.primary import SentinelPrimary
from flask_idempotent.stores.redis.server import Server
from flask_idempotent.stores.redis.topology import SingleServer, Topology
from flask_idempotent.stores.redis.translation import ScriptUnknown, or_raise

_TIME = pack(("TIME",))


class Client:
    """Sends commands about keys.

    :param topology: knows which server has a key.
    """

    def __init__(self, topology: Topology) -> None:
        self.topology = topology

    @classmethod
    def from_url(
        cls,
        url: str,
        prepare: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Client:
        """Make a client from an address.

        :param prepare: called before each use of a single server; makes sure that there is one.
        :param clock: returns seconds, for the idle times and ages of connections.
        :raises SettingsError: when the address cannot be used.
        """
        address = read_address(url)
        if isinstance(address, SentinelAddress):
            return cls(SentinelPrimary.at(address, clock))
        if isinstance(address, ClusterAddress):
            return cls(Cluster.at(address, clock))
        return cls(SingleServer(Server.from_url(url), prepare, clock))

    @classmethod
    def from_redis(cls, client: object) -> Client:
        """Make one that connects as a redis-py client does; see ``topology_of``."""
        return cls(topology_of(client))

    def __str__(self) -> str:
        return str(self.topology)

    def __repr__(self) -> str:
        return f"<Client {self}>"

    def nodes(self) -> Sequence[Node]:
        """Return the servers, for commands that are not about one key."""
        return self.topology.nodes()

    def execute(self, *command: Any) -> Any:
        """Send one command about a key, which follows the command's name, and return its reply.

        :raises RecordUnreadable: when the key holds something other than a string.
        :raises WriteRefused: when the server refuses writes.
        :raises StoreUnavailable: when it does not answer, or answers with an error.
        """
        storage_key = str(command[1]) if len(command) > 1 else ""
        return or_raise(self.topology.exchange(storage_key, pack(command), 1)[0])

    def call(self, command: Command, key: str, *arguments: Any) -> Any:
        """Send a command about one key; raises as ``execute`` does."""
        return or_raise(self.topology.exchange(key, command.pack(key, *arguments), 1)[0])

    def run(self, script: Script, key: str, *arguments: Any) -> Any:
        """Run a script on one key; raises as ``execute`` does."""
        reply = self.topology.exchange(key, script.by_digest.pack(key, *arguments), 1)[0]
        if type(reply) is ScriptUnknown:
            reply = self.topology.exchange(key, script.by_source.pack(key, *arguments), 1)[0]
        return or_raise(reply)

    def run_many(self, script: Script, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run a script once for each key and its arguments.

        :returns: the replies; an ``IdempotentError`` in the place of one that failed.
        """
        replies = self.topology.exchange_many(script.by_digest, calls)
        # A server was restarted, or its scripts flushed.
        refused = [number for number, reply in enumerate(replies) if type(reply) is ScriptUnknown]
        if refused:
            again = self.topology.exchange_many(script.by_source, [calls[n] for n in refused])
            for number, reply in zip(refused, again, strict=True):
                replies[number] = reply
        return replies

    def clock_ms(self, storage_key: str) -> int:
        """Return the time by the clock of the server that has a key, in milliseconds.

        :raises StoreUnavailable: when it does not answer.
        """
        reply = or_raise(self.topology.exchange(storage_key, _TIME, 1)[0])
        seconds, microseconds = map(int, reply)
        return seconds * 1000 + microseconds // 1000

    def subscribers(self, channel_names: Sequence[str]) -> dict[str, int]:
        """Return how many subscribers channels have.

        :raises StoreError: when a server does not say.
        """
        counts: dict[str, int] = {}
        groups, errors = self.topology.by_node(channel_names)
        for error in errors.values():
            raise error
        for node, numbers in groups.items():
            names = [channel_names[number] for number in numbers]
            answer = node.execute("PUBSUB", self.topology.pubsub.count_subscribers, *names)
            counts |= zip(map(decode_name, answer[::2]), answer[1::2], strict=True)
        return counts

    def close(self) -> None:
        """Close the connections; a later command opens new ones."""
        self.topology.close()
