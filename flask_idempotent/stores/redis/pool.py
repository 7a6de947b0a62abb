"""The pool: connections that wait for the next command, the last used first.

redis-py's own pool asks the operating system about a connection each time it gives it out, and
counts and measures what it does, which costs more than all else between a command and its reply.
This one finds a broken connection by using it, which its user must be ready for anyway, and opens
one again that it has no reason to trust any more.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from flask_idempotent import _timing
from flask_idempotent._forks import ForkAware


class PoolExhausted(Exception):
    """Every connection stayed in use."""


class PooledConnection:
    """A connection, and what tells whether it may still be trusted.

    :param connection: a redis-py connection, open or not.
    """

    __slots__ = ("connection", "generation", "opened", "returned")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        #: The pool's when it was opened; None where it was not, or not greeted.
        self.generation: int | None = None
        self.opened = self.returned = 0.0


class _Waiter:
    """Somebody who waits for a connection."""

    def __init__(self) -> None:
        self.served = threading.Event()
        self.connection: PooledConnection | None = None


class Pool(ForkAware):
    """Lends connections, each to one command at a time.

    Who waits is served in turn: of a thousand that come at once none starves.

    :param connect: makes a connection, which need not be open yet.
    :param size: how many there may be.
    :param timeout: seconds to wait for one to be given back.
    :param trusted_idle: seconds for which one that is idle may be used as it is.
    :param clock: tells the seconds that idle times and ages are measured in.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        size: int,
        timeout: float,
        trusted_idle: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._size = size
        self._timeout = timeout
        self._trusted_idle = trusted_idle
        self._clock = clock
        #: Goes up when all connections are dropped.
        self.generation = 0
        self._dropped = float("-inf")
        super().__init__()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._made = 0
        self._idle: list[PooledConnection] = []
        self._waiters: deque[_Waiter] = deque()

    def take(self) -> PooledConnection:
        """Borrow a connection, trusted or not; ``give_back`` must follow.

        :raises PoolExhausted: when none is given back in time.
        """
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if self._made < self._size:
                pooled = PooledConnection(self._connect())
                self._made += 1
                return pooled
            waiter = _Waiter()
            self._waiters.append(waiter)
        try:
            if not waiter.served.wait(self._timeout):
                raise PoolExhausted(f"all {self._size} connections are in use")
        except BaseException:
            self._withdraw(waiter)
            raise
        assert waiter.connection is not None, "it was served"
        return waiter.connection

    def trusts(self, pooled: PooledConnection) -> bool:
        """Whether a connection is open and may be used as it is; ``open`` it otherwise."""
        now = self._clock()
        return (
            # It takes redis-py longer to see that it is open.
            pooled.connection._sock is not None
            and pooled.generation == self.generation
            and now - pooled.returned < self._trusted_idle
            and now - pooled.opened < _timing.CONNECTION_MAX_AGE
        )

    def _withdraw(self, waiter: _Waiter) -> None:
        # Its time is over, or a signal's handler or gevent interrupted it: its turn is the next
        # one's, and so is a connection that was given to it just now.
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        if waiter.connection is not None:
            self.give_back(waiter.connection)

    def open(self, pooled: PooledConnection) -> int:
        """Connect anew, and trust the connection from now on.

        :returns: its generation.
        """
        generation, pooled.generation = self.generation, None
        pooled.connection.disconnect()
        pooled.connection.connect()
        pooled.opened = pooled.returned = self._clock()
        pooled.generation = generation
        return generation

    def drop(self, pooled: PooledConnection) -> bool:
        """Trust no connection any more that is open by now, because this one leads astray.

        :returns: False where all were dropped a moment ago and this one was opened since.
        """
        with self._lock:
            if pooled.generation != self.generation:
                return True
            if self._clock() - self._dropped < _timing.POOL_DROP_EVERY:
                return False
            self._dropped = self._clock()
            self.generation += 1
        self.close()
        return True

    def give_back(self, pooled: PooledConnection) -> None:
        """Make a connection free for the next command."""
        pooled.returned = self._clock()
        with self._lock:
            if self._waiters:
                waiter = self._waiters.popleft()
                waiter.connection = pooled
                waiter.served.set()
            else:
                self._idle.append(pooled)

    def close(self) -> None:
        """Close the connections that are free."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._made -= len(idle)
        for pooled in idle:
            pooled.connection.disconnect()
