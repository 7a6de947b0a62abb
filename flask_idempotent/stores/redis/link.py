"""The pub/sub connection to one node, opened in the background, and what was asked over it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

from flask_idempotent import _timing
from flask_idempotent.errors import StoreError
from flask_idempotent.stores.redis.background import Background
from flask_idempotent.stores.redis.node import Node
from flask_idempotent.stores.redis.pubsub import PubSubCommands, PubSubConnection


class Link:
    """A connection to one node, for all channels that the node has.

    It is opened in a thread of its own, so that a silent node does not delay the messages of the
    others. Everything else is for the subscriber's thread alone.

    :param node: the node.
    :param commands: the names of the commands of pub/sub.
    :param on_opened: called when the connection is open, or could not be opened.
    """

    def __init__(self, node: Node, commands: PubSubCommands, on_opened: Callable[[], None]) -> None:
        self.node = node
        self.channels: set[str] = set()
        self.connection: PubSubConnection | None = None
        self._commands = commands
        self._on_opened = on_opened
        self._opener = Background(self._open, "flask-idempotent-subscription")
        #: What the opener has left for the subscriber's thread.
        self._opened: deque[PubSubConnection | StoreError] = deque()
        #: The node's generation when the connection was opened.
        self._generation = node.generation
        self._pause = _timing.RECONNECT_FIRST
        #: Monotonic time at which the connection is to be opened, or its silence to be noticed.
        self.due_at = float("-inf")
        self._awaits_pong = False
        #: Commands and channels without an answer yet.
        self._unanswered: deque[tuple[str, str]] = deque()
        # A channel may be left and joined again before its first confirmation comes.
        self._subscribing: Counter[str] = Counter()

    @property
    def is_stale(self) -> bool:
        """Whether the connection may lead to a server that was replaced."""
        return self._generation != self.node.generation

    def open_soon(self) -> None:
        """Begin to open the connection.

        :raises StoreError: when the process can have no more threads.
        """
        self.due_at = float("inf")
        try:
            self._opener.start()
        except RuntimeError as error:
            raise StoreError(str(error)) from error

    def _open(self) -> None:
        self._generation = self.node.generation
        try:
            self._opened.append(self.node.subscription())
        except StoreError as error:
            self._opened.append(error)
        self._on_opened()

    def take_opened(self) -> PubSubConnection | None:
        """Return the connection, once it is open.

        :raises StoreError: when it could not be opened.
        """
        if not self._opened:
            return None
        opened = self._opened.popleft()
        if isinstance(opened, StoreError):
            raise opened
        self.connection = opened
        self.note_activity()
        return opened

    def close_connection(self, pause: float | None = None) -> None:
        """Close the connection, which is opened again later.

        :param pause: seconds until then; by default longer each time.
        """
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        self._unanswered.clear()
        self._subscribing.clear()
        if pause is None:
            pause, self._pause = self._pause, min(2 * self._pause, _timing.RECONNECT_LONGEST)
        self.due_at = time.monotonic() + pause

    def subscribe(self, channel_name: str) -> None:
        """Subscribe to a channel, now or when the connection is open."""
        self.channels.add(channel_name)
        self.send_subscribe(channel_name)

    def send_subscribe(self, channel_name: str) -> None:
        """Send the command that subscribes to a channel."""
        if self.connection is not None:
            self._subscribing[channel_name] += 1
            self._send(self._commands.subscribe, channel_name)

    def unsubscribe(self, channel_name: str) -> None:
        """Leave a channel."""
        self.channels.discard(channel_name)
        if self.connection is not None:
            self._send(self._commands.unsubscribe, channel_name)

    def _send(self, command: str, channel_name: str) -> None:
        assert self.connection is not None
        self._unanswered.append((command, channel_name))
        self.connection.send(command, channel_name)

    def confirms(self, channel_name: str) -> bool:
        """Whether an answer that confirms a subscription confirms the last one to this channel."""
        # A server may accept the connection and refuse the channel: only now it works again.
        self._pause = _timing.RECONNECT_FIRST
        self._answered()
        return not self._subscribing[channel_name]

    def was_asked_to_leave(self, channel_name: str) -> bool:
        """Whether an answer that a channel was left is one to a command of ours."""
        asked = (self._commands.unsubscribe, channel_name)
        if not self._unanswered or self._unanswered[0] != asked:
            return False
        self._answered()
        return True

    def refused(self) -> str | None:
        """Return the channel whose subscription an error answers; None for another command."""
        command, channel_name = self._answered()
        return channel_name if command == self._commands.subscribe else None

    def _answered(self) -> tuple[str, str]:
        if not self._unanswered:
            raise StoreError("an answer came that nothing was asked for")
        command, channel_name = self._unanswered.popleft()
        if command == self._commands.subscribe:
            self._subscribing[channel_name] -= 1
            if not self._subscribing[channel_name]:
                del self._subscribing[channel_name]
        return command, channel_name

    def note_activity(self) -> None:
        """Note that something has arrived."""
        self._awaits_pong = False
        self.due_at = time.monotonic() + _timing.SUBSCRIBER_PING_AFTER

    def check_silence(self) -> None:
        """Send a PING over a connection that has been silent.

        :raises StoreError: when the last one was not answered.
        """
        assert self.connection is not None
        if self._awaits_pong:
            raise StoreError("the connection fell silent")
        self.connection.send("PING")
        self.note_activity()
        self._awaits_pong = True

    def close(self) -> None:
        """Close the connection for good."""
        self._opener.close()
        for opened in self._opened:
            if isinstance(opened, PubSubConnection):
                opened.close()
        self.close_connection()
