"""The thread behind a ``Subscriber``, which alone sends and receives on its connections."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flask_idempotent import _timing
from flask_idempotent._logging import logger
from flask_idempotent.errors import IdempotentError, StoreError
from flask_idempotent.stores.redis.link import Link
from flask_idempotent.stores.redis.node import Node
from flask_idempotent.stores.redis.topology import Topology
from flask_idempotent.stores.redis.translation import Moved

if TYPE_CHECKING:
    from flask_idempotent.stores.redis.subscriber import Subscriber


class SubscriberThread:
    """Subscribes to channels and delivers what arrives on them, until its subscriber closes.

    :param subscriber: says which channels to subscribe to, and gets what arrives on them.
    :param topology: says which node has a channel.
    :param wake_socket: becomes readable when the subscriber has something to do.
    """

    def __init__(
        self, subscriber: Subscriber, topology: Topology, wake_socket: socket.socket
    ) -> None:
        self._subscriber = subscriber
        self._topology = topology
        self._wake_socket = wake_socket
        self._selector = selectors.DefaultSelector()
        self._links: dict[Node, Link] = {}
        self._link_of: dict[str, Link] = {}
        #: Channels whose node is not known: when to look for it again.
        self._look_again_at: dict[str, float] = {}

    def run(self) -> None:
        self._selector.register(self._wake_socket, selectors.EVENT_READ)
        while not self._subscriber.closing:
            try:
                self._run_once()
            except Exception:
                logger.exception("listening for completions failed; it starts again")
                for link in self._links.values():
                    self._interrupt(link)
                time.sleep(_timing.RECONNECT_FIRST)
        for link in self._links.values():
            link.close()
        self._selector.close()
        self._wake_socket.close()

    def _run_once(self) -> None:
        if self._subscriber.take_reconnect():
            self._follow_moves()
        for command, channel_name in self._subscriber.take_commands():
            command(self, channel_name)
        self._look_again()
        for link in list(self._links.values()):
            self._attend(link, self._maintain)
        for key, _ in self._selector.select(self._patience()):
            if key.data is None:
                self._drain_wake_socket()
            elif key.fileobj is key.data.connection:  # An error may have closed it.
                self._attend(key.data, self._receive)

    def _patience(self) -> float | None:
        times = [link.due_at for link in self._links.values()]
        times += self._look_again_at.values()
        soonest = min(times, default=float("inf"))
        return None if soonest == float("inf") else max(0.0, soonest - time.monotonic())

    def _drain_wake_socket(self) -> None:
        with suppress(BlockingIOError):
            while self._wake_socket.recv(4096):
                pass

    def _attend(self, link: Link, action: Callable[[Link], None]) -> None:
        """Do something with a connection; open it again later where that fails."""
        try:
            action(link)
        except StoreError as error:
            logger.warning("listening for completions was interrupted: %s", error)
            self._interrupt(link)

    def _interrupt(self, link: Link, pause: float | None = None) -> None:
        if link.connection is not None:
            with suppress(KeyError):  # It was opened just now.
                self._selector.unregister(link.connection)
        link.close_connection(pause)
        self._subscriber.interrupt(link.channels)

    def subscribe(self, channel_name: str) -> None:
        """Subscribe to a channel at the node that has it."""
        try:
            node = self._topology.node_of(channel_name)
        except StoreError:
            self._look_again_at[channel_name] = time.monotonic() + _timing.RECONNECT_LONGEST
            return
        link = self._links.get(node)
        if link is None:
            link = Link(node, self._topology.pubsub, self._subscriber.wake)
            self._links[node] = link
        self._link_of[channel_name] = link
        self._attend(link, lambda link: link.subscribe(channel_name))

    def unsubscribe(self, channel_name: str) -> None:
        """Leave a channel."""
        self._look_again_at.pop(channel_name, None)
        link = self._link_of.pop(channel_name, None)
        if link is not None:
            self._attend(link, lambda link: link.unsubscribe(channel_name))

    def _look_again(self) -> None:
        now = time.monotonic()
        for channel_name in [n for n, at in self._look_again_at.items() if at <= now]:
            del self._look_again_at[channel_name]
            self.subscribe(channel_name)

    def _follow_moves(self) -> None:
        """Leave connections to servers that were replaced, and channels that have moved."""
        for link in self._links.values():
            if link.connection is not None and link.is_stale:
                self._interrupt(link, pause=0.0)
        for channel_name, link in list(self._link_of.items()):
            with suppress(StoreError):
                if self._topology.node_of(channel_name) is not link.node:
                    self.unsubscribe(channel_name)
                    self._subscriber.interrupt([channel_name])
                    self.subscribe(channel_name)

    def _maintain(self, link: Link) -> None:
        if link.connection is None:
            self._open(link)
        elif time.monotonic() >= link.due_at:
            if link.channels or len(self._links) == 1:
                link.check_silence()
            else:
                self._selector.unregister(link.connection)
                del self._links[link.node]
                link.close()

    def _open(self, link: Link) -> None:
        connection = link.take_opened()
        if connection is not None:
            self._selector.register(connection, selectors.EVENT_READ, link)
            if link.is_stale:
                self._interrupt(link, pause=0.0)
                return
            for channel_name in link.channels:
                link.send_subscribe(channel_name)
        elif time.monotonic() >= link.due_at:
            link.open_soon()

    def _receive(self, link: Link) -> None:
        assert link.connection is not None
        for message in link.connection.messages():
            self._handle(link, message)
        link.note_activity()

    def _handle(self, link: Link, message: Any) -> None:
        if isinstance(message, Moved):
            self._follow(link, message)
        elif isinstance(message, IdempotentError):
            raise StoreError(str(message))
        elif isinstance(message, list):  # Not a PONG while no channel is subscribed to.
            kind, channel_name = message[0], message[1].decode()
            if kind.endswith(b"message"):
                self._subscriber.deliver(channel_name)
            elif kind.endswith(b"unsubscribe"):
                if not link.was_asked_to_leave(channel_name):
                    self._move(link, channel_name)
            elif kind.endswith(b"subscribe") and link.confirms(channel_name):
                self._subscriber.confirm(channel_name)

    def _move(self, link: Link, channel_name: str) -> None:
        """Subscribe again to a channel that its node has ended, because its slot has moved."""
        if self._link_of.get(channel_name) is link:
            self._subscriber.interrupt([channel_name])
            link.channels.discard(channel_name)
            self.subscribe(channel_name)

    def _follow(self, link: Link, moved: Moved) -> None:
        """Subscribe at the node that another one has named."""
        channel_name = link.refused()
        if channel_name is not None and self._link_of.get(channel_name) is link:
            self._topology.note_moved(channel_name, link.node, moved)
            link.channels.discard(channel_name)
            del self._link_of[channel_name]
            # Two nodes that name each other must not be asked without a pause.
            self._look_again_at[channel_name] = time.monotonic() + _timing.RECONNECT_FIRST
