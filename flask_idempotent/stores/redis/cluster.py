"""A Redis or Valkey Cluster: each key belongs to one of its slots, and each slot to one node.

redis-py's own client of a cluster sleeps and tries again for longer than a request may wait. So
this one follows the nodes' answers itself, each kind once, and within the time of one command.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

from flask_idempotent import _timing
from flask_idempotent.errors import StoreError, StoreUnavailable, WriteRefused
from flask_idempotent.stores.redis.commands import Command, pack
from flask_idempotent.stores.redis.connection import Place
from flask_idempotent.stores.redis.fleet_addresses import ClusterAddress
from flask_idempotent.stores.redis.node import Node
from flask_idempotent.stores.redis.pubsub import SHARDED
from flask_idempotent.stores.redis.server import Server
from flask_idempotent.stores.redis.slot_map import ClusterNode, SlotMap
from flask_idempotent.stores.redis.slots import slot_of
from flask_idempotent.stores.redis.topology import Topology
from flask_idempotent.stores.redis.translation import Asked, Moved, Redirected, TryAgain

_ASKING = pack(("ASKING",))


class _Lost(StoreUnavailable):
    """The node did not answer."""


#: What a call may be sent again after.
_FOLLOWED = (Moved, Asked, TryAgain, _Lost)


class _Call(NamedTuple):
    """Commands about keys of one slot, sent in one write.

    :param slot: the slot.
    :param packed: the commands as bytes.
    :param size: how many they are.
    :param started: monotonic time of their first sending.
    """

    slot: int
    packed: bytes
    size: int
    started: float


class Cluster(Topology):
    """The nodes of a cluster, each of which has some of the keys.

    :param server: the options of connections to the nodes.
    :param seeds: where nodes are that say which slots each node has.
    :param clock: returns seconds, for the idle times and ages of connections.
    :param remap: turns an address that a node reports into the one to connect to.
    """

    database = 0
    kind = "cluster"
    pubsub = SHARDED

    def __init__(
        self,
        server: Server,
        seeds: Sequence[Place],
        clock: Callable[[], float] = time.monotonic,
        remap: Callable[[Place], Place] = lambda place: place,
    ) -> None:
        self._map = SlotMap(server, seeds, clock, remap)
        self._transport = server.transport
        scheme = "rediss" if self._transport == "tls" else "redis"
        self._name = f"{scheme}+cluster://{','.join(server.at(*seed).place for seed in seeds)}"

    @classmethod
    def at(cls, address: ClusterAddress, clock: Callable[[], float] = time.monotonic) -> Self:
        """Make it from an address.

        :raises SettingsError: when the address has an option with a wrong value.
        """
        servers = [Server.from_url(url) for url in address.urls]
        return cls(servers[0], [server.endpoint for server in servers], clock)

    def __str__(self) -> str:
        return self._name

    @property
    def transport(self) -> str:
        return self._transport

    def node_of(self, storage_key: str) -> Node:
        return self._map.owner(slot_of(storage_key), time.monotonic())

    def nodes(self) -> Sequence[Node]:
        return self._map.primaries(time.monotonic())

    def exchange(self, storage_key: str, packed: bytes, count: int) -> list[Any]:
        started, slot = time.monotonic(), slot_of(storage_key)
        node = self._map.owner(slot, started)
        replies = self._send(node, packed, count)
        if isinstance(replies[0], StoreError):
            return self._follow(_Call(slot, packed, count, started), node, replies)
        return replies

    def exchange_many(self, command: Command, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        groups, errors = self.by_node([storage_key for storage_key, *_ in calls])
        replies: dict[int, Any] = dict(errors)
        for node, numbers in groups.items():
            assert isinstance(node, ClusterNode)
            of_node = self._exchange_with(node, command, [calls[number] for number in numbers])
            replies |= zip(numbers, of_node, strict=True)
        return [replies[number] for number in range(len(calls))]

    def _exchange_with(
        self, node: ClusterNode, command: Command, calls: Sequence[tuple[Any, ...]]
    ) -> list[Any]:
        """Send the calls whose keys one node has, and follow each that it does not carry out."""
        started = time.monotonic()
        replies = self._send(node, command.pack_many(calls), len(calls))
        for number, reply in enumerate(replies):
            if isinstance(reply, StoreError):
                storage_key, *arguments = calls[number]
                packed = command.pack(storage_key, *arguments)
                call = _Call(slot_of(storage_key), packed, 1, started)
                (replies[number],) = self._follow(call, node, [reply])
        return replies

    def _send(
        self, node: ClusterNode, packed: bytes, count: int, since: float | None = None
    ) -> list[Any]:
        """Send commands to a node; an error takes the place of each reply that does not come.

        :param since: monotonic time at which they were first sent, to another node.
        """
        try:
            replies = node.exchange(packed, count, since)
        except StoreUnavailable as error:
            self._map.suspect(node)
            lost = _Lost(str(error), sent=error.sent)
            lost.__cause__ = error
            return [lost] * count
        if node.is_replaced:
            # It may go on answering, and forget what it is sent.
            return [_Lost("another node has taken over")] * count
        self._map.trust(node)
        return replies

    def _follow(self, call: _Call, node: ClusterNode, replies: list[Any]) -> list[Any]:
        """Send a call again where its answer says so, once for each kind of answer.

        :param node: the node that has given these replies.
        """
        followed = set()
        in_doubt = False
        while isinstance(error := replies[0], _FOLLOWED):
            in_doubt = in_doubt or error.sent
            is_late = time.monotonic() - call.started >= _timing.MOVE_WITHIN
            if is_late or type(error) in followed:
                break
            followed.add(type(error))
            successor = self._successor(call, node, error)
            if successor is None:
                break
            node = successor
            if isinstance(error, Asked):
                packed = _ASKING + call.packed
                _, *replies = self._send(node, packed, call.size + 1, call.started)
            else:
                replies = self._send(node, call.packed, call.size, call.started)
        if type(replies[0]) in (StoreUnavailable, WriteRefused):
            # This node may have been replaced, or know that another one was.
            self._map.refresh_soon()
        return _marked_in_doubt(replies) if in_doubt else replies

    def _successor(
        self, call: _Call, node: ClusterNode, error: StoreUnavailable
    ) -> ClusterNode | None:
        """Return the node to send a call to after an error; None where there is no other one."""
        if isinstance(error, Redirected):
            place = (error.host or node.place[0], error.port)
            if isinstance(error, Moved):
                return self._map.note(call.slot, place)
            return self._map.redirected(place)
        if isinstance(error, TryAgain):
            time.sleep(_timing.TRY_AGAIN_AFTER)
            return self._map.known_owner(call.slot)
        self._map.refresh(call.started)
        owner = self._map.known_owner(call.slot)
        return None if owner is node else owner

    def note_moved(self, name: str, node: Node, moved: Moved) -> None:
        assert isinstance(node, ClusterNode)
        self._map.note(slot_of(name), (moved.host or node.place[0], moved.port))

    def has_failed(self, node: Node) -> bool:
        assert isinstance(node, ClusterNode)
        return self._map.is_suspect(node)

    def recheck(self, node: Node) -> None:
        assert isinstance(node, ClusterNode)
        self._map.suspect(node)

    def on_move(self, method: Callable[[], None]) -> None:
        self._map.on_move(method)

    def close(self) -> None:
        self._map.close()


def _marked_in_doubt(replies: list[Any]) -> list[Any]:
    """Mark errors of calls of which an earlier sending may have been carried out."""
    for reply in replies:
        if isinstance(reply, StoreError):
            reply.sent = True
    return replies
