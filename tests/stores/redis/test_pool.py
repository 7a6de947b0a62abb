"""The pool: each connection has one user at a time, and the last used is given out first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from flask_idempotent import _timing
from flask_idempotent.stores.redis.pool import (
    Pool,
    PooledConnection,
    PoolExhausted,
)
from tests.support.polling import until


class Connection:
    """Knows whether it is open, and whether it was closed."""

    def __init__(self) -> None:
        self._sock: object = None
        self.closed = False

    def connect(self) -> None:
        self._sock, self.closed = object(), False

    def disconnect(self) -> None:
        self._sock, self.closed = None, True


class Server:
    """Makes connections, and opens them."""

    trusted_idle = 60.0

    def __init__(self, make: Callable[[], Connection] = Connection) -> None:
        self.connection = make

    def open(self, connection: Connection, since: float) -> None:
        connection.connect()


class Clock:
    """Tells the time that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TestPool:
    def test_last_used_first(self) -> None:
        """A free connection is given out, the last used first, before another one is made."""
        pool = Pool(Server(), 3, 1.0)
        one, other = pool.acquire(), pool.acquire()
        pool.release(one)
        pool.release(other)
        assert [pool.acquire(), pool.acquire()] == [other, one]
        assert pool.acquire() not in (one, other)

    def test_waits_for_one(self, background: Callable[..., Future[object]]) -> None:
        """If none is free, the caller waits until one is released."""
        pool = Pool(Server(), 1, 10.0)
        only = pool.acquire()
        waiting = background(pool.acquire)
        pool.release(only)
        assert waiting.result(5) is only

    def test_in_turn(self, background: Callable[..., Future[object]]) -> None:
        """The caller that has waited longest is served first, before any that comes now."""
        pool = Pool(Server(), 1, 10.0)
        only = pool.acquire()
        waiting = []
        for number in range(3):
            waiting.append(background(pool.acquire))
            until(lambda: len(pool._turns) == number + 1)  # noqa: B023
        for future in waiting:
            pool.release(only)
            assert future.result(5) is only
        assert not pool._turns

    def test_exhausted(self) -> None:
        """If none is released in time, that is an error, and the place in the queue is freed."""
        pool = Pool(Server(), 2, 0.05)
        in_use = [pool.acquire(), pool.acquire()]
        started = time.monotonic()
        with pytest.raises(PoolExhausted, match="all 2 connections are in use"):
            pool.acquire()
        assert time.monotonic() - started >= 0.05
        pool.release(in_use[0])
        assert pool.acquire() is in_use[0]

    @pytest.mark.parametrize("served", [False, True])
    def test_interrupted(self, served: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """An interrupted caller keeps no connection, not even one that it was given just now."""
        pool = Pool(Server(), 1, 0.05)
        only = pool.acquire()

        def interrupt(event: threading.Event, seconds: float) -> bool:
            if served:
                pool.release(only)
            raise KeyboardInterrupt

        monkeypatch.setattr(threading.Event, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.acquire()
        monkeypatch.undo()
        if not served:
            pool.release(only)
        assert pool.acquire() is only

    def test_failed_making_takes_no_place(self) -> None:
        """A connection that cannot be made does not count."""
        outcomes = iter([OSError("no"), OSError("no"), None])

        def make() -> Connection:
            error = next(outcomes)
            if error is not None:
                raise error
            return Connection()

        pool = Pool(Server(make), 1, 0.05)
        for _ in range(2):
            with pytest.raises(OSError, match="no"):
                pool.acquire()
        assert isinstance(pool.acquire().connection, Connection)

    def test_close(self) -> None:
        """Closing ends free connections; those in use go on, and the pool can be used again."""
        pool = Pool(Server(), 2, 1.0)
        in_use, free = pool.acquire(), pool.acquire()
        pool.release(free)
        pool.close()
        assert (in_use.connection.closed, free.connection.closed) == (False, True)
        assert pool.acquire() is not free

    def test_after_a_fork(self) -> None:
        """A forked process shares no connection with its parent."""
        pool = Pool(Server(), 1, 0.05)
        parents = pool.acquire()
        pool.release(parents)
        pool.reset()
        assert pool.acquire() is not parents

    def test_never_lent_twice(self) -> None:
        """However many threads ask, no connection has two users at once."""
        pool = Pool(Server(), 4, 10.0)
        used: set[PooledConnection] = set()
        clashes: list[PooledConnection] = []

        def work() -> None:
            for _ in range(200):
                connection = pool.acquire()
                if connection in used:
                    clashes.append(connection)
                used.add(connection)
                used.discard(connection)
                pool.release(connection)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert clashes == []


class TestTrust:
    """A connection that may no longer work is opened again before it is used."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def pool(self, clock: Clock) -> Pool:
        return Pool(Server(), 4, 1.0, clock)

    def use(self, pool: Pool) -> bool:
        """Use a connection as a client does, and return whether it was trusted."""
        pooled = pool.acquire()
        trusted = pool.trusts(pooled)
        if not trusted:
            pool.open(pooled, 0.0)
        pool.release(pooled)
        return trusted

    def test_idle(self, pool: Pool, clock: Clock) -> None:
        """One that was idle for a minute is opened again; one that was used since is not."""
        self.use(pool)
        for _ in range(3):
            clock.now += 59.9
            assert self.use(pool)
        clock.now += 60.0
        assert not self.use(pool)

    def test_age(self, pool: Pool, clock: Clock) -> None:
        """Even a busy one is opened again after ten minutes."""
        self.use(pool)
        while clock.now < _timing.CONNECTION_MAX_AGE - 50:
            clock.now += 50
            assert self.use(pool)
        clock.now += 50
        assert not self.use(pool)
        assert self.use(pool)

    def test_broken(self, pool: Pool) -> None:
        """One that broke is opened again."""
        pooled = pool.acquire()
        pool.open(pooled, 0.0)
        pooled.connection.disconnect()
        assert not pool.trusts(pooled)

    def test_dropped(self, pool: Pool) -> None:
        """If one leads to a wrong server, free ones are closed, and those in use not trusted."""
        misled, in_use, free = pool.acquire(), pool.acquire(), pool.acquire()
        for pooled in (misled, in_use, free):
            pool.open(pooled, 0.0)
        pool.release(free)
        assert pool.drop(misled) is True
        assert free.connection.closed
        assert not in_use.connection.closed
        assert not pool.trusts(in_use)

    def test_dropped_once(self, pool: Pool) -> None:
        """Of many that notice at the same moment one drops all, and every one may connect again."""
        misled = [pool.acquire() for _ in range(3)]
        for pooled in misled:
            pool.open(pooled, 0.0)
        assert [pool.drop(pooled) for pooled in misled] == [True] * 3
        assert pool.generation == 1

    def test_address_that_leads_there(self, pool: Pool, clock: Clock) -> None:
        """Connections opened since lead where the address leads, and are not dropped at once."""
        pooled = pool.acquire()
        pool.open(pooled, 0.0)
        pool.drop(pooled)
        pool.open(pooled, 0.0)
        assert pool.drop(pooled) is False
        clock.now += 1.0
        assert pool.drop(pooled) is True
        assert pool.generation == 2

    def test_dropped_while_it_was_opened(self, pool: Pool) -> None:
        """One that was being opened when all were dropped may lead to the old address."""
        one, other = pool.acquire(), pool.acquire()
        pool.open(one, 0.0)
        connect = other.connection.connect
        other.connection.connect = lambda: (connect(), pool.drop(one))
        pool.open(other, 0.0)
        assert not pool.trusts(other)
