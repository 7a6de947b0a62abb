"""Commands and scripts, each sent to the server that has its key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flask_idempotent.errors import IdempotentError, StoreError
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
from flask_idempotent.stores.redis.translation import ScriptUnknown

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

    def clocks(self, storage_keys: Sequence[str]) -> list[int | None]:
        """Return the time by the clock of the server that has each key, in milliseconds.

        :returns: None in the place of a server that does not answer.
        :raises StoreUnavailable: when none does.
        """
        clocks: dict[str, int] = {}
        errors: list[StoreError] = []
        for names in self._by_node(storage_keys, errors).values():
            try:
                reply = or_raise(self.topology.exchange(names[0], _TIME, 1)[0])
                seconds, microseconds = map(int, reply)
            except StoreError as error:
                errors.append(error)
            else:
                clocks |= dict.fromkeys(names, seconds * 1000 + microseconds // 1000)
        if errors and not clocks:
            raise errors[0]
        return [clocks.get(name) for name in storage_keys]

    def subscribers(self, channel_names: Sequence[str]) -> dict[str, int]:
        """Return how many subscribers channels have.

        :raises StoreError: when a server does not say.
        """
        counts: dict[str, int] = {}
        errors: list[StoreError] = []
        for node, names in self._by_node(channel_names, errors).items():
            answer = node.execute("PUBSUB", self.topology.pubsub.count_subscribers, *names)
            counts |= zip(map(decode_name, answer[::2]), answer[1::2], strict=True)
        if errors:
            raise errors[0]
        return counts

    def _by_node(self, names: Iterable[str], errors: list[StoreError]) -> dict[Node, list[str]]:
        """Group keys or channels by the server that has them.

        :param errors: gets an error for each that no server has.
        """
        groups: dict[Node, list[str]] = {}
        for name in names:
            try:
                groups.setdefault(self.topology.node_of(name), []).append(name)
            except StoreError as error:
                errors.append(error)
        return groups

    def close(self) -> None:
        """Close the connections; a later command opens new ones."""
        self.topology.close()


def or_raise(reply: Any) -> Any:
    """Return a reply, or raise the error that is in its place."""
    if isinstance(reply, IdempotentError):
        raise reply
    return reply
