"""Which server has a key."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from flask_idempotent.errors import StoreError
from flask_idempotent.stores.redis.commands import Command
from flask_idempotent.stores.redis.connection import Connector
from flask_idempotent.stores.redis.node import Node
from flask_idempotent.stores.redis.pubsub import PLAIN
from flask_idempotent.stores.redis.translation import Moved


class Topology(ABC):
    """Names the server that has a key, and sends commands to it.

    Its nodes forget an address that was wrong: they connect again, which looks the address up.
    """

    #: The number of the database that has the records.
    database: int
    #: How the server of a key is found: ``"server"``, ``"sentinel"`` or ``"cluster"``.
    kind = "server"
    #: The commands of pub/sub that its servers are sent.
    pubsub = PLAIN

    @property
    @abstractmethod
    def transport(self) -> str:
        """How commands travel; see ``Connector.transport``."""

    @abstractmethod
    def node_of(self, storage_key: str) -> Node:
        """Return the server that has a key."""

    def by_node(self, names: Sequence[str]) -> tuple[dict[Node, list[int]], dict[int, StoreError]]:
        """Group keys or channels by the server that has them.

        :returns: for each server the numbers of its names, where those servers that have failed
            come last; and for the number of each name that no server has an error.
        """
        groups: dict[Node, list[int]] = {}
        errors: dict[int, StoreError] = {}
        for number, name in enumerate(names):
            try:
                groups.setdefault(self.node_of(name), []).append(number)
            except StoreError as error:
                errors[number] = error
        return {node: groups[node] for node in sorted(groups, key=self.has_failed)}, errors

    def has_failed(self, node: Node) -> bool:
        """Whether it is known that a server did not answer."""
        return False

    @abstractmethod
    def nodes(self) -> Sequence[Node]:
        """Return all servers that have keys, none of them a replica."""

    @abstractmethod
    def exchange(self, storage_key: str, packed: bytes, count: int) -> list[Any]:
        """Send commands about one key to the server that has it; see ``Node.exchange``."""

    @abstractmethod
    def exchange_many(self, command: Command, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send a command once for each key and its arguments, in one round trip per server.

        :returns: the replies; an ``IdempotentError`` in the place of one that failed.
        """

    @abstractmethod
    def note_moved(self, name: str, node: Node, moved: Moved) -> None:
        """Note that a node has answered that another one has a key or a channel."""

    @abstractmethod
    def on_move(self, method: Callable[[], None]) -> None:
        """Call a method when another server has taken over; see ``Node.on_move``."""

    def recheck(self, node: Node) -> None:
        """Find out again where a server is: this one may have been cut off and replaced."""
        node.recheck()

    @abstractmethod
    def close(self) -> None:
        """Close the connections; a later command opens new ones."""


class SingleServer(Topology):
    """One server has all keys.

    :param server: how to connect to it.
    :param prepare: called before each use; makes sure that there is a server.
    :param clock: returns seconds, for the idle times and ages of connections.
    """

    def __init__(
        self,
        server: Connector,
        prepare: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._node = Node(server, prepare, clock)
        self.database = server.database

    @property
    def transport(self) -> str:
        return self._server.transport

    def __str__(self) -> str:
        return str(self._server)

    def node_of(self, storage_key: str) -> Node:
        return self._node

    def nodes(self) -> Sequence[Node]:
        return (self._node,)

    def exchange(self, storage_key: str, packed: bytes, count: int) -> list[Any]:
        return self._node.exchange(packed, count)

    def exchange_many(self, command: Command, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        return self._node.exchange(command.pack_many(calls), len(calls))

    def note_moved(self, name: str, node: Node, moved: Moved) -> None:
        pass  # It is a node of a cluster, and the address of one server does not fit.

    def on_move(self, method: Callable[[], None]) -> None:
        self._node.on_move(method)

    def close(self) -> None:
        self._node.close()
