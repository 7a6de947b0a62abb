"""A pub/sub connection, and the thread behind a ``Subscriber``, which alone touches it."""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from flask_idempotent import _timing
from flask_idempotent._logging import logger
from flask_idempotent.errors import StoreError
from flask_idempotent.stores.redis.connection import Connection
from flask_idempotent.stores.redis.translation import translation

if TYPE_CHECKING:
    from flask_idempotent.stores.redis.subscriber import Subscriber


class PubSubConnection:
    """A connection that is subscribed to channels.

    :param connection: a redis-py connection that one thread alone uses.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def fileno(self) -> int:
        """Return the socket's number, for a selector."""
        return int(self._connection._sock.fileno())

    def send(self, *command: str) -> None:
        """Send a command of pub/sub, or PING; its answer is one of ``messages``."""
        with translation():
            self._connection.send_command(*command, check_health=False)

    def messages(self) -> Iterator[list[bytes]]:
        """Yield what has arrived, until nothing more is there."""
        with translation():
            while self._connection.can_read(0):
                yield self._connection.read_response()


Connect = Callable[[], AbstractContextManager[PubSubConnection]]


class SubscriberThread:
    """Subscribes to channels and delivers what arrives on them, until its subscriber closes.

    :param subscriber: has the channels to subscribe to, and gets what arrives on them.
    :param connect: opens a connection for pub/sub.
    :param wake_socket: becomes readable when the subscriber has something to do.
    """

    def __init__(
        self, subscriber: Subscriber, connect: Connect, wake_socket: socket.socket
    ) -> None:
        self._subscriber = subscriber
        self._connect = connect
        self._wake_socket = wake_socket
        # Channel names. A channel may be left and joined again before its first confirmation comes.
        self._unconfirmed: Counter[str] = Counter()
        self._pause = _timing.RECONNECT_FIRST
        #: When something arrived last, or a PING was sent.
        self._active_at = 0.0
        self._awaits_pong = False

    def run(self) -> None:
        while not self._subscriber.closing:
            self._subscriber.take_reconnect()
            try:
                with self._connect() as connection:
                    self._serve(connection)
            except StoreError as error:
                logger.warning("listening for completions was interrupted: %s", error)
            except Exception:
                logger.exception("listening for completions failed; it starts again")
            if not self._subscriber.closing:
                self._subscriber.restart()
                self._sleep(self._pause)
                self._pause = min(2 * self._pause, _timing.RECONNECT_LONGEST)
        self._wake_socket.close()

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_socket, selectors.EVENT_READ)
            while not self._subscriber.closing and (left := end - time.monotonic()) > 0:
                selector.select(left)
                self._drain_wake_socket()

    def _drain_wake_socket(self) -> None:
        with suppress(BlockingIOError):
            while self._wake_socket.recv(4096):
                pass

    def _serve(self, connection: PubSubConnection) -> None:
        self._unconfirmed.clear()
        for channel_name in self._subscriber.restart():
            self._send(connection, "SUBSCRIBE", channel_name)
        self._note_activity(awaits_pong=False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_socket, selectors.EVENT_READ)
            selector.register(connection.fileno(), selectors.EVENT_READ)
            while not self._subscriber.closing:
                ready = selector.select(_timing.SUBSCRIBER_PING_AFTER)
                self._drain_wake_socket()
                if self._subscriber.take_reconnect():
                    return
                for command, channel_name in self._subscriber.take_commands():
                    self._send(connection, command, channel_name)
                if any(key.fileobj is not self._wake_socket for key, _ in ready):
                    for message in connection.messages():
                        self._handle(message)
                    self._note_activity(awaits_pong=False)
                else:
                    self._check_silence(connection)

    def _check_silence(self, connection: PubSubConnection) -> None:
        if time.monotonic() - self._active_at >= _timing.SUBSCRIBER_PING_AFTER:
            if self._awaits_pong:
                raise StoreError("the connection fell silent")
            connection.send("PING")
            self._note_activity(awaits_pong=True)

    def _note_activity(self, *, awaits_pong: bool) -> None:
        self._active_at, self._awaits_pong = time.monotonic(), awaits_pong

    def _send(self, connection: PubSubConnection, command: str, channel_name: str) -> None:
        if command == "SUBSCRIBE":
            self._unconfirmed[channel_name] += 1
        connection.send(command, channel_name)

    def _handle(self, message: object) -> None:
        if not isinstance(message, list):
            return  # A PONG while no channel is subscribed to.
        kind, channel_name = message[0], message[1].decode()
        if kind == b"message":
            self._subscriber.deliver(channel_name)
        elif kind == b"subscribe":
            # A server may accept the connection and refuse the channel: only now it works again.
            self._pause = _timing.RECONNECT_FIRST
            self._unconfirmed[channel_name] -= 1
            if not self._unconfirmed[channel_name]:
                del self._unconfirmed[channel_name]
                self._subscriber.confirm(channel_name)
