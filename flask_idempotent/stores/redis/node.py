"""One server: commands with bounded waiting, and redis-py's errors translated.

redis-py's own defaults send a command ten times with pauses and wait five seconds for each reply. A
request cannot wait that long to learn that the store is dead. So a node gives out redis-py's
connections itself, with short timeouts, and sends a command again only once and at once: where its
connection broke, or leads to a server that was demoted or replaced.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from flask_idempotent import _timing
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.stores.redis.commands import pack
from flask_idempotent.stores.redis.connection import Connector
from flask_idempotent.stores.redis.pool import Pool, PooledConnection, PoolExhausted
from flask_idempotent.stores.redis.pubsub import PubSubConnection
from flask_idempotent.stores.redis.translation import (
    ANSWERS,
    ERRORS,
    LOST,
    TURNED_AWAY,
    is_from_wrong_server,
    or_raise,
    read_reply,
    translated,
    translation,
    unavailable,
)

_MAX_CONNECTIONS = 50


class Node:
    """A server, and the connections to it.

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
        self._prepare = prepare
        size = min(server.max_connections, _MAX_CONNECTIONS)
        self._pool = Pool(server, size, _timing.POOL_TIMEOUT, clock)
        self._on_move: Callable[[], Callable[[], None] | None] = lambda: None
        #: The pool's generation that ``_on_move`` was last called for.
        self._notified_generation = self._pool.generation

    def __str__(self) -> str:
        return str(self._server)

    def __repr__(self) -> str:
        return f"<Node {self}>"

    def execute(self, *command: Any) -> Any:
        """Send one command and return its reply.

        :raises WriteRefused: when the server refuses writes.
        :raises StoreUnavailable: when it does not answer, or answers with an error.
        """
        return or_raise(self.exchange(pack(command), 1)[0])

    def exchange(self, packed: bytes, count: int, since: float | None = None) -> list[Any]:
        """Send commands in one round trip, and once more where the connection failed.

        :param packed: the commands as bytes.
        :param count: how many they are.
        :param since: monotonic time at which they were first sent, to another node; None where
            this is the first sending.
        :returns: the replies; an ``IdempotentError`` in the place of one that failed.
        """
        self._prepare()
        started = time.monotonic() if since is None else since
        pooled = self._acquire(since)
        try:
            try:
                replies = self._round_trip(pooled, packed, count, started)
            except LOST:
                if time.monotonic() - started > _timing.RESEND_WITHIN:
                    raise
                return self._resend(pooled, packed, count, started, in_doubt=True)
            in_time = time.monotonic() - started < _timing.MOVE_WITHIN
            errors = [reply for reply in replies if isinstance(reply, ANSWERS)]
            if errors:
                if in_time and self._may_move(pooled, errors):
                    return self._resend(pooled, packed, count, started, in_doubt=False)
                return translated(replies)
            if pooled.generation == self._pool.generation:
                return replies
            # Another server has taken over in the meantime, perhaps without what this one did.
            if in_time:
                return self._resend(pooled, packed, count, started, in_doubt=True)
            raise StoreUnavailable("another server has taken over")
        except ERRORS as error:
            raise unavailable(error) from error
        except BaseException:
            # A signal's handler may interrupt the greeting too: its reply must not be read as the
            # next command's.
            pooled.connection.disconnect()
            raise
        finally:
            self._pool.release(pooled)

    def _acquire(self, since: float | None) -> PooledConnection:
        timeout = None
        if since is not None:
            timeout = max(0.0, since + _timing.MOVE_WITHIN - time.monotonic())
        try:
            return self._pool.acquire(timeout)
        except PoolExhausted as error:
            raise StoreUnavailable(str(error), sent=False) from error

    def _may_move(self, pooled: PooledConnection, errors: Sequence[BaseException]) -> bool:
        """Whether a new connection may lead to the right server, where this one did not."""
        if not any(map(is_from_wrong_server, errors)):
            return False
        # A refused greeting says nothing about the connections that are open.
        return pooled.generation is None or self._pool.drop(pooled)

    def _resend(
        self, pooled: PooledConnection, packed: bytes, count: int, started: float, *, in_doubt: bool
    ) -> list[Any]:
        """Send commands again on a new connection.

        :param in_doubt: whether the first sending may have been carried out.
        """
        pooled.connection.disconnect()
        self._server.forget()
        try:
            return translated(self._round_trip(pooled, packed, count, started), in_doubt=in_doubt)
        except StoreUnavailable as error:
            error.sent = error.sent or in_doubt
            raise

    def _round_trip(
        self, pooled: PooledConnection, packed: bytes, count: int, started: float
    ) -> list[Any]:
        connection = pooled.connection
        try:
            if not self._pool.trusts(pooled):
                self._open(pooled, started)
            connection.send_packed_command((packed,), check_health=False)
            return [read_reply(connection) for _ in range(count)]
        except TURNED_AWAY as error:
            # redis-py would return this answer again, and the next ones to other commands.
            connection.disconnect()
            return [error] * count
        except BaseException:
            # A signal's handler may raise before the reply is read: it must not be read as the next
            # command's.
            connection.disconnect()
            raise

    def _open(self, pooled: PooledConnection, started: float) -> None:
        try:
            generation = self._pool.open(pooled, started)
        except TURNED_AWAY:
            raise
        except ERRORS as error:
            raise unavailable(error, sent=False) from error
        if generation > self._notified_generation:
            self._notify_move(generation)

    def _notify_move(self, generation: int) -> None:
        self._notified_generation = generation
        on_move = self._on_move()
        if on_move is not None:
            on_move()

    def on_move(self, method: Callable[[], None]) -> None:
        """Call a method when another server has taken over.

        Its object, which may refer to this node, is not kept alive.
        """
        self._on_move = weakref.WeakMethod(method)

    def subscription(self) -> PubSubConnection:
        """Open a separate connection for pub/sub.

        :raises StoreUnavailable: when the server cannot be reached.
        """
        self._prepare()
        connection = self._server.connection()
        with translation():
            self._server.open(connection, time.monotonic())
        return PubSubConnection(connection)

    @property
    def generation(self) -> int:
        """Goes up whenever all connections are dropped."""
        return self._pool.generation

    def drop(self) -> None:
        """Stop using all connections, that of the waiters too: another server has taken over."""
        self._notify_move(self._pool.drop_all())

    def recheck(self) -> None:
        """Open new connections from now on, which looks the server's address up again."""
        self._server.forget()
        self._pool.close()

    def close_unused(self, seconds: float) -> bool:
        """Close all connections if none was used for so long, and return whether that is so."""
        return self._pool.close_unused(seconds)

    def close(self) -> None:
        """Close the connections; a later command opens new ones."""
        self._pool.close()
