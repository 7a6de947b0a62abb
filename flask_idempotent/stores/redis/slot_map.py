"""Which node of a cluster has which slots: asked of the nodes, and noted from their answers."""

from __future__ import annotations

import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence

from flask_idempotent import _timing
from flask_idempotent._forks import ForkAware
from flask_idempotent.errors import IdempotentError, StoreUnavailable
from flask_idempotent.stores.redis.background import Background
from flask_idempotent.stores.redis.connection import Place
from flask_idempotent.stores.redis.node import Node
from flask_idempotent.stores.redis.server import Server
from flask_idempotent.stores.redis.slots import SLOTS, SlotRange, read_slots


class ClusterNode(Node):
    """A node of a cluster.

    :param server: the options of its connections.
    :param place: its host and port.
    :param clock: returns seconds, for the idle times and ages of connections.
    """

    def __init__(self, server: Server, place: Place, clock: Callable[[], float]) -> None:
        super().__init__(server.at(*place), clock=clock)
        self.place = place
        #: Whether others have all of its slots now.
        self.is_replaced = False


class SlotMap(ForkAware):
    """The nodes of a cluster, and the slots that each has.

    It is asked for in the background: when it is old, when a node answers that a slot has moved,
    and when a node fails, but at most once a second.

    :param server: the options of connections to the nodes.
    :param seeds: where nodes are that can be asked first.
    :param clock: returns seconds, for the idle times and ages of connections.
    :param remap: turns an address that a node reports into the one to connect to.
    """

    def __init__(
        self,
        server: Server,
        seeds: Sequence[Place],
        clock: Callable[[], float],
        remap: Callable[[Place], Place],
    ) -> None:
        self._server = server
        self._seeds = seeds
        self._clock = clock
        self._remap = remap
        self._slots: list[ClusterNode | None] = [None] * SLOTS
        self._nodes: dict[Place, ClusterNode] = {}
        #: The nodes that have slots.
        self._primaries: tuple[ClusterNode, ...] = ()
        self._background = Background(self._refresh, "flask-idempotent-slots")
        self._on_move: Callable[[], Callable[[], None] | None] = lambda: None
        #: When the nodes were asked last, and when they are to be asked again.
        self._asked_at = self._due_at = float("-inf")
        #: Nodes that have failed and not answered since.
        self._suspects: set[ClusterNode] = set()
        #: Why the nodes did not say who has which slots.
        self._fault = "they have not answered in time"
        super().__init__()

    def reset(self) -> None:
        self._lock = threading.Lock()

    def _node_at(self, place: Place) -> ClusterNode:
        with self._lock:
            node = self._nodes.get(place)
            if node is None:
                node = self._nodes[place] = ClusterNode(self._server, place, self._clock)
            return node

    def redirected(self, place: Place) -> ClusterNode:
        """Return the node at an address that another node has reported."""
        return self._node_at(self._remap(place))

    def known_owner(self, slot: int) -> ClusterNode | None:
        """Return the node that has a slot, as far as is known."""
        return self._slots[slot]

    def owner(self, slot: int, since: float) -> ClusterNode:
        """Return the node that has a slot.

        :param since: monotonic time at which the caller began to wait for the store.
        :raises StoreUnavailable: when that is not known in time.
        """
        if time.monotonic() >= self._due_at:
            self.refresh_soon()
        node = self._slots[slot]
        if node is None:
            self.refresh(since)
            node = self._slots[slot]
        if node is None:
            raise StoreUnavailable(self._why_unknown(), sent=False)
        return node

    def primaries(self, since: float) -> Sequence[ClusterNode]:
        """Return the nodes that have slots.

        :param since: monotonic time at which the caller began to wait for the store.
        :raises StoreUnavailable: when none is known in time.
        """
        if not self._primaries:
            self.refresh(since)
        if not self._primaries:
            raise StoreUnavailable(self._why_unknown(), sent=False)
        return self._primaries

    def _why_unknown(self) -> str:
        if self._primaries:
            return "no node of the cluster serves the key's slot"
        return f"no node of the cluster says which slots it has: {self._fault}"

    def note(self, slot: int, place: Place) -> ClusterNode:
        """Note that a node has answered that a slot belongs to another one, which is returned."""
        node = self.redirected(place)
        if self._slots[slot] is not node:
            self._slots[slot] = node
            self._notify_move()
        self.refresh_soon()
        return node

    def suspect(self, node: ClusterNode) -> None:
        """Note that a node has failed."""
        self._suspects.add(node)
        self.refresh_soon()

    def trust(self, node: ClusterNode) -> None:
        """Note that a node has answered."""
        if node in self._suspects:
            self._suspects.discard(node)

    def is_suspect(self, node: ClusterNode) -> bool:
        """Whether a node has failed and not answered since."""
        return node in self._suspects

    def refresh_soon(self) -> None:
        """Ask the nodes in the background, as soon as a second has passed since the last time."""
        now = time.monotonic()
        self._due_at = self._asked_at + _timing.SLOTS_EVERY
        if now >= self._due_at:
            # Not before this run has ended, which sets another time.
            self._due_at = now + _timing.SLOTS_EVERY
            self._run(self._background.start)

    def refresh(self, since: float) -> None:
        """Ask the nodes, unless they were asked within the last second, and wait for an answer.

        :param since: monotonic time at which the caller began to wait for the store.
        """
        now = time.monotonic()
        if now >= self._asked_at + _timing.SLOTS_EVERY:
            left = since + _timing.MOVE_WITHIN - now
            self._run(lambda: self._background.run_and_wait(left))

    def _run(self, ask: Callable[[], object]) -> None:
        try:
            ask()
        except RuntimeError as error:
            # The process can have no more threads. What is known of the slots has to do.
            self._fault = str(error)

    def _refresh(self) -> None:
        if time.monotonic() < self._asked_at + _timing.SLOTS_EVERY:
            return  # Another request has waited for the run before this one.
        ranges = self._ask()
        self._asked_at = time.monotonic()
        self._due_at = self._asked_at + _timing.SLOTS_MAX_AGE
        if ranges:
            self._adopt(ranges)

    def _ask(self) -> list[SlotRange]:
        """Ask the nodes until one knows of every slot; return what the best one knows."""
        best: list[SlotRange] = []
        faults = []
        for node in self._askable():
            try:
                ranges = read_slots(node.execute("CLUSTER", "SLOTS"), node.place[0])
            except (IdempotentError, ValueError) as error:
                faults.append(str(error))
                continue
            if _size(ranges) > _size(best):
                best = ranges
            if _size(best) == SLOTS:
                break
        self._fault = "; ".join(dict.fromkeys(faults)) or "they know of none"
        return best

    def _askable(self) -> Iterator[ClusterNode]:
        # In any order, so that one node that has missed a failover is not asked again and again.
        nodes = random.sample(self._primaries, len(self._primaries))
        yield from (node for node in nodes if not self.is_suspect(node))
        yield from map(self._node_at, self._seeds)
        yield from filter(self.is_suspect, nodes)

    def _adopt(self, ranges: Sequence[SlotRange]) -> None:
        slots: list[ClusterNode | None] = [None] * SLOTS
        for first, last, place in ranges:
            slots[first : last + 1] = [self.redirected(place)] * (last + 1 - first)
        has_moved, self._slots = slots != self._slots, slots
        self._primaries = tuple(dict.fromkeys(node for node in slots if node is not None))
        self._close_others()
        if has_moved:
            self._notify_move()

    def _close_others(self) -> None:
        with self._lock:
            others = [node for node in self._nodes.values() if node not in self._primaries]
            self._nodes = {node.place: node for node in self._primaries}
        self._suspects.intersection_update(self._primaries)
        for node in others:
            node.is_replaced = True
            node.close()

    def on_move(self, method: Callable[[], None]) -> None:
        """Call a method when slots have moved; its object is not kept alive."""
        self._on_move = weakref.WeakMethod(method)

    def _notify_move(self) -> None:
        on_move = self._on_move()
        if on_move is not None:
            on_move()

    def close(self) -> None:
        """Close the connections; a later command opens new ones."""
        self._background.close()
        with self._lock:
            nodes = list(self._nodes.values())
        for node in nodes:
            node.close()


def _size(ranges: Sequence[SlotRange]) -> int:
    return sum(last + 1 - first for first, last, _ in ranges)
