"""The pool: connections are lent to one user at a time, the last used first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from flask_idempotent.stores.redis import pool as module
from flask_idempotent.stores.redis.pool import Pool, PoolExhausted
from tests.waiting import until


class Connection:
    """Knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def disconnect(self) -> None:
        self.closed = True


class TestPool:
    def test_last_used_first(self) -> None:
        """A connection that is free is lent again, the last used first, before one is made."""
        pool = Pool(Connection, 3, 1.0)
        one, other = pool.take(), pool.take()
        pool.give_back(one)
        pool.give_back(other)
        assert [pool.take(), pool.take()] == [other, one]
        assert pool.take() not in (one, other)

    def test_waits_for_one(self, background: Callable[..., Future[object]]) -> None:
        """Who finds none free waits until one is given back."""
        pool = Pool(Connection, 1, 10.0)
        only = pool.take()
        waiting = background(pool.take)
        pool.give_back(only)
        assert waiting.result(5) is only

    def test_rather_waits_than_opens_many(
        self, background: Callable[..., Future[object]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Beyond a few, who finds none free waits a moment before another is opened."""
        monkeypatch.setattr(module, "_PATIENCE", 10.0)
        pool = Pool(Connection, module._AT_ONCE + 1, 10.0)
        lent = [pool.take() for _ in range(module._AT_ONCE)]
        waiting = background(pool.take)
        until(lambda: pool._waiters)
        pool.give_back(lent[0])
        assert waiting.result(5) is lent[0]
        assert pool._made == module._AT_ONCE

    def test_opens_more_where_none_comes_back(self) -> None:
        """A store that takes its time gets more connections, up to the limit."""
        pool = Pool(Connection, module._AT_ONCE + 2, 0.05)
        lent = {pool.take() for _ in range(module._AT_ONCE + 2)}
        assert len(lent) == module._AT_ONCE + 2
        assert not pool._waiters
        with pytest.raises(PoolExhausted):
            pool.take()

    def test_in_turn(self, background: Callable[..., Future[object]]) -> None:
        """Who waits longest is served first, before anybody who comes now."""
        pool = Pool(Connection, 1, 10.0)
        only = pool.take()
        waiting = []
        for number in range(3):
            waiting.append(background(pool.take))
            until(lambda: len(pool._waiters) == number + 1)  # noqa: B023
        for future in waiting:
            pool.give_back(only)
            assert future.result(5) is only
        assert not pool._waiters

    def test_exhausted(self) -> None:
        """Who waits in vain is told so, in time, and takes nobody's place."""
        pool = Pool(Connection, 2, 0.05)
        lent = [pool.take(), pool.take()]
        started = time.monotonic()
        with pytest.raises(PoolExhausted, match="all 2 connections are in use"):
            pool.take()
        assert time.monotonic() - started >= 0.05
        pool.give_back(lent[0])
        assert pool.take() is lent[0]

    @pytest.mark.parametrize("served", [False, True])
    def test_interrupted(self, served: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who is interrupted while it waits takes no connection along, not even one just given."""
        pool = Pool(Connection, 1, 0.05)
        only = pool.take()

        def interrupt(event: threading.Event, seconds: float) -> bool:
            if served:
                pool.give_back(only)
            raise KeyboardInterrupt

        monkeypatch.setattr(threading.Event, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.take()
        monkeypatch.undo()
        if not served:
            pool.give_back(only)
        assert pool.take() is only

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
                pool.take()
        assert isinstance(pool.take(), Connection)

    def test_close(self) -> None:
        """Closing ends what is free; what is lent goes on, and the pool may be used again."""
        pool = Pool(Connection, 2, 1.0)
        lent, free = pool.take(), pool.take()
        pool.give_back(free)
        pool.close()
        assert (lent.closed, free.closed) == (False, True)
        assert pool.take() is not free

    def test_after_a_fork(self) -> None:
        """A process that begins afresh shares no connection with its parent."""
        pool = Pool(Connection, 1, 0.05)
        parents = pool.take()
        pool.give_back(parents)
        pool.reset()
        assert pool.take() is not parents

    def test_never_lent_twice(self) -> None:
        """However many threads ask, no connection has two users at once."""
        pool = Pool(Connection, 4, 10.0)
        used: set[Connection] = set()
        clashes: list[Connection] = []

        def work() -> None:
            for _ in range(200):
                connection = pool.take()
                if connection in used:
                    clashes.append(connection)
                used.add(connection)
                used.discard(connection)
                pool.give_back(connection)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert clashes == []
