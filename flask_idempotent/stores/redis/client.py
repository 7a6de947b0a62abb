"""Commands and scripts, each sent to the server that has its key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flask_idempotent.errors import IdempotentError
from flask_idempotent.stores.redis.clients import topology_of
from flask_idempotent.stores.redis.commands import Command, Script, pack
from flask_idempotent.stores.redis.fleet_addresses import SentinelAddress, read_address
from flask_idempotent.stores.redis.node import Node
from flask_idempotent.stores.redis.pubsub import PubSubConnection
from flask_idempotent.stores.redis.sentinel import SentinelPrimary
from flask_idempotent.stores.redis.server import Server
from flask_idempotent.stores.redis.topology import SingleServer, Topology
from flask_idempotent.stores.redis.translation import ScriptUnknown


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
        return _or_raise(self.topology.exchange(storage_key, pack(command), 1)[0])

    def execute_many(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands about keys of one server in one round trip.

        :returns: the replies; an ``IdempotentError`` in the place of one that failed.
        """
        storage_key, packed = str(commands[0][-1]), b"".join(map(pack, commands))
        return self.topology.exchange(storage_key, packed, len(commands))

    def call(self, command: Command, key: str, *arguments: Any) -> Any:
        """Send a command about one key; raises as ``execute`` does."""
        return _or_raise(self.topology.exchange(key, command.pack(key, *arguments), 1)[0])

    def run(self, script: Script, key: str, *arguments: Any) -> Any:
        """Run a script on one key; raises as ``execute`` does."""
        reply = self.topology.exchange(key, script.by_digest.pack(key, *arguments), 1)[0]
        if type(reply) is ScriptUnknown:
            reply = self.topology.exchange(key, script.by_source.pack(key, *arguments), 1)[0]
        return _or_raise(reply)

    def run_many(self, script: Script, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run a script once for each key and its arguments.

        :returns: the replies; an ``IdempotentError`` in the place of one that failed.
        """
        replies = self.topology.exchange_many(script.by_digest, calls)
        if ScriptUnknown in map(type, replies):
            # The server was restarted, or its scripts flushed. None of these calls has run.
            replies = self.topology.exchange_many(script.by_source, calls)
        return replies

    @contextmanager
    def subscription(self) -> Iterator[PubSubConnection]:
        """Open a separate connection for pub/sub; see ``Node.subscription``."""
        (node,) = self.nodes()
        with node.subscription() as connection:
            yield connection

    def close(self) -> None:
        """Close the connections; a later command opens new ones."""
        self.topology.close()


def _or_raise(reply: Any) -> Any:
    if isinstance(reply, IdempotentError):
        raise reply
    return reply
