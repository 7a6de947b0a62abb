"""The pool: connections are lent to one user at a time, the last used first."""

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


class Clock:
    """Tells the time that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TestPool:
    def test_last_used_first(self) -> None:
        """A connection that is free is lent again, the last used first, before one is made."""
        pool = Pool(Connection, 3, 1.0)
        one, other = pool.acquire(), pool.acquire()
        pool.release(one)
        pool.release(other)
        assert [pool.acquire(), pool.acquire()] == [other, one]
        assert pool.acquire() not in (one, other)

    def test_waits_for_one(self, background: Callable[..., Future[object]]) -> None:
        """Who finds none free waits until one is given back."""
        pool = Pool(Connection, 1, 10.0)
        only = pool.acquire()
        waiting = background(pool.acquire)
        pool.release(only)
        assert waiting.result(5) is only

    def test_in_turn(self, background: Callable[..., Future[object]]) -> None:
        """Who waits longest is served first, before anybody who comes now."""
        pool = Pool(Connection, 1, 10.0)
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
        """Who waits in vain is told so, in time, and takes nobody's place."""
        pool = Pool(Connection, 2, 0.05)
        lent = [pool.acquire(), pool.acquire()]
        started = time.monotonic()
        with pytest.raises(PoolExhausted, match="all 2 connections are in use"):
            pool.acquire()
        assert time.monotonic() - started >= 0.05
        pool.release(lent[0])
        assert pool.acquire() is lent[0]

    @pytest.mark.parametrize("served", [False, True])
    def test_interrupted(self, served: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who is interrupted while it waits takes no connection along, not even one just given."""
        pool = Pool(Connection, 1, 0.05)
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
        """A connection that cannot be made leaves its place to the next."""
        outcomes = iter([OSError("no"), OSError("no"), None])

        def make() -> Connection:
            error = next(outcomes)
            if error is not None:
                raise error
            return Connection()

        pool = Pool(make, 1, 0.05)
        for _ in range(2):
            with pytest.raises(OSError, match="no"):
                pool.acquire()
        assert isinstance(pool.acquire().connection, Connection)

    def test_close(self) -> None:
        """Closing ends what is free; what is lent goes on, and the pool may be used again."""
        pool = Pool(Connection, 2, 1.0)
        lent, free = pool.acquire(), pool.acquire()
        pool.release(free)
        pool.close()
        assert (lent.connection.closed, free.connection.closed) == (False, True)
        assert pool.acquire() is not free

    def test_after_a_fork(self) -> None:
        """A process that begins afresh shares no connection with its parent."""
        pool = Pool(Connection, 1, 0.05)
        parents = pool.acquire()
        pool.release(parents)
        pool.reset()
        assert pool.acquire() is not parents

    def test_never_lent_twice(self) -> None:
        """However many threads ask, no connection has two users at once."""
        pool = Pool(Connection, 4, 10.0)
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
    """A connection that may be of no more use is closed before it is lent again."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def pool(self, clock: Clock) -> Pool:
        return Pool(Connection, 4, 1.0, trusted_idle=60.0, clock=clock)

    def lend(self, pool: Pool) -> bool:
        """Lend one as to a client, and say whether it was used as it was."""
        pooled = pool.acquire()
        trusted = pool.trusts(pooled)
        if not trusted:
            pool.open(pooled)
        pool.release(pooled)
        return trusted

    def test_idle(self, pool: Pool, clock: Clock) -> None:
        """One that was idle for a minute is opened again; one that was used since is not."""
        self.lend(pool)
        for _ in range(3):
            clock.now += 59.9
            assert self.lend(pool)
        clock.now += 60.0
        assert not self.lend(pool)

    def test_age(self, pool: Pool, clock: Clock) -> None:
        """However busy, one is opened again after ten minutes."""
        self.lend(pool)
        while clock.now < _timing.CONNECTION_MAX_AGE - 50:
            clock.now += 50
            assert self.lend(pool)
        clock.now += 50
        assert not self.lend(pool)
        assert self.lend(pool)

    def test_broken(self, pool: Pool) -> None:
        """One that broke is opened again."""
        pooled = pool.acquire()
        pool.open(pooled)
        pooled.connection.disconnect()
        assert not pool.trusts(pooled)

    def test_dropped(self, pool: Pool) -> None:
        """When one leads astray, those that are free are closed, and those lent not used again."""
        astray, lent, free = pool.acquire(), pool.acquire(), pool.acquire()
        for pooled in (astray, lent, free):
            pool.open(pooled)
        pool.release(free)
        assert pool.drop(astray) is True
        assert free.connection.closed
        assert not lent.connection.closed
        assert not pool.trusts(lent)

    def test_dropped_once(self, pool: Pool) -> None:
        """Of many that find out at the same moment one drops, and all may connect anew."""
        astray = [pool.acquire() for _ in range(3)]
        for pooled in astray:
            pool.open(pooled)
        assert [pool.drop(pooled) for pooled in astray] == [True] * 3
        assert pool.generation == 1

    def test_address_that_leads_there(self, pool: Pool, clock: Clock) -> None:
        """What was opened since leads where the address leads: nothing more is dropped for long."""
        pooled = pool.acquire()
        pool.open(pooled)
        pool.drop(pooled)
        pool.open(pooled)
        assert pool.drop(pooled) is False
        clock.now += 1.0
        assert pool.drop(pooled) is True
        assert pool.generation == 2

    def test_dropped_while_it_was_opened(self, pool: Pool) -> None:
        """One that was being opened when all were dropped may lead to the old address."""
        one, other = pool.acquire(), pool.acquire()
        pool.open(one)
        connect = other.connection.connect
        other.connection.connect = lambda: (connect(), pool.drop(one))
        pool.open(other)
        assert not pool.trusts(other)
