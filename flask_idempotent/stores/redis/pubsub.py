"""Pub/sub: its commands, and a connection that is subscribed to channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from flask_idempotent.stores.redis.connection import Connection
from flask_idempotent.stores.redis.translation import read_reply, translated, translation


class PubSubCommands(NamedTuple):
    """The names of the commands of pub/sub."""

    publish: str
    subscribe: str
    unsubscribe: str
    #: What counts a channel's subscribers, as a subcommand of PUBSUB.
    count_subscribers: str


PLAIN = PubSubCommands("PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE", "NUMSUB")
#: In a cluster PUBLISH sends a message to all nodes, and SPUBLISH to those that have the slot.
SHARDED = PubSubCommands("SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE", "SHARDNUMSUB")


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

    def messages(self) -> Iterator[Any]:
        """Yield what has arrived, until nothing more is there; errors are yielded, not raised."""
        with translation():
            while self._connection.can_read(0):
                yield from translated([read_reply(self._connection)])

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()
