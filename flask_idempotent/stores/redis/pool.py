"""The pool: connections that wait for the next command, the last used first.

redis-py's own pool asks the operating system about a connection each time it gives it out, and
counts and measures what it does, which costs more than all else between a command and its reply.
This one finds a broken connection by using it, which its user must be ready for anyway.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from flask_idempotent.processes import ProcessBound


class PoolExhausted(Exception):
    """Every connection stayed in use."""


#: So many connections are opened as soon as they are wanted. More than this a process hardly keeps
#: busy where the store is near, and to open one takes longer than to wait for the next to be free.
_AT_ONCE = 8
#: Seconds after which one is opened nevertheless: the store is far, or busy.
_PATIENCE = 0.002


class _Waiter:
    """Somebody who waits for a connection."""

    def __init__(self) -> None:
        self.served = threading.Event()
        self.connection: Any = None


class Pool(ProcessBound):
    """Lends connections, each to one command at a time.

    Who waits is served in turn: of a thousand that come at once none starves.

    :param connect: makes a connection, which need not be open yet.
    :param size: how many there may be.
    :param timeout: seconds to wait for one to be given back.
    """

    def __init__(self, connect: Callable[[], Any], size: int, timeout: float) -> None:
        self._connect = connect
        self._size = size
        self._timeout = timeout
        super().__init__()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._made = 0
        self._idle: list[Any] = []
        self._waiters: deque[_Waiter] = deque()

    def take(self) -> Any:
        """Borrow a connection; ``give_back`` must follow.

        :raises PoolExhausted: when none is given back in time.
        """
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if self._made < min(_AT_ONCE, self._size):
                return self._make()
            waiter = _Waiter()
            self._waiters.append(waiter)
            may_grow = self._made < self._size
        try:
            return self._served(waiter, may_grow)
        except BaseException:
            self._withdraw(waiter)
            raise

    def _served(self, waiter: _Waiter, may_grow: bool) -> Any:
        if may_grow and not waiter.served.wait(_PATIENCE):
            with self._lock:
                if waiter.connection is None and self._made < self._size:
                    connection = self._make()
                    self._waiters.remove(waiter)
                    return connection
        if not waiter.served.wait(self._timeout):
            raise PoolExhausted(f"all {self._size} connections are in use")
        return waiter.connection

    def _make(self) -> Any:
        connection = self._connect()
        self._made += 1
        return connection

    def _withdraw(self, waiter: _Waiter) -> None:
        # Its time is over, or a signal's handler or gevent interrupted it: its turn is the next
        # one's, and so is a connection that was given to it just now.
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        if waiter.connection is not None:
            self.give_back(waiter.connection)

    @property
    def lent(self) -> int:
        """How many connections are in use, at a glance: others may take and give back meanwhile."""
        return self._made - len(self._idle)

    def give_back(self, connection: Any) -> None:
        """Make a connection free for the next command."""
        with self._lock:
            if self._waiters:
                waiter = self._waiters.popleft()
                waiter.connection = connection
                waiter.served.set()
            else:
                self._idle.append(connection)

    def close(self) -> None:
        """Close the connections that are free."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._made -= len(idle)
        for connection in idle:
            connection.disconnect()
