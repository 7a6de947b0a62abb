"""Lanes: each contestant runs in a process of its own, and only when it is told.

So nobody pays for another's threads, hooks or garbage.
"""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from tests.benchmarks.contestants import BARE, BODY_SIZE, Contestant, environ, fresh_key, make
from tests.benchmarks.processors import keep_on

T = TypeVar("T")


class Lane(Protocol):
    """Where one contestant runs; its name is the contestant's."""

    name: str

    def enter(self) -> None:
        """Return when the contestant is ready."""

    def run(self, act: Callable[..., T], *given: Any) -> T:
        """Let the contestant do something, given to a function of a module."""

    def close(self) -> None:
        """Give back what it holds."""


class _Process:
    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._pool = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_enter, initargs=(name, url)
        )
        self._entered: Future[None] = self._pool.submit(_act, _warm_up)

    def enter(self) -> None:
        self._entered.result(timeout=60)

    def run(self, act: Callable[..., T], *given: Any) -> T:
        return self._pool.submit(_act, act, *given).result(timeout=120)

    def close(self) -> None:
        self.run(Contestant.close)
        self._pool.shutdown()


class _Here:
    """For trying the benchmarks: it starts at once."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._contestant = Contestant(name, make(name, url))

    def enter(self) -> None:
        pass

    def run(self, act: Callable[..., T], *given: Any) -> T:
        return act(self._contestant, *given)

    def close(self) -> None:
        self._contestant.close()


@contextmanager
def lanes(url: str, *names: str, apart: bool = True) -> Iterator[dict[str, Lane]]:
    """Start contestants.

    :param url: where records live.
    :param apart: each in a process; else in this one.
    """
    made: dict[str, Lane] = {name: (_Process if apart else _Here)(name, url) for name in names}
    try:
        for lane in made.values():
            lane.enter()
        yield made
    finally:
        for lane in made.values():
            lane.close()


# In a contestant's process.

_contestant: Contestant | None = None


def _enter(name: str, url: str) -> None:
    global _contestant
    keep_on(0)
    _contestant = Contestant(name, make(name, url))


def _act(act: Callable[..., T], *given: Any) -> T:
    return act(_contestant, *given)


def _warm_up(contestant: Contestant) -> None:
    for _ in range(50):
        contestant.beside.answer(environ())
        key = fresh_key()
        for given in (None, key, key):
            status, headers, body = contestant.answer(environ(given))
            assert status.startswith("201"), (contestant.name, status)
            assert len(body) == BODY_SIZE, contestant.name
        replayed = any(name.lower().endswith("-replayed") for name in headers)
        assert replayed == (contestant.name != BARE), (contestant.name, headers)
    # What lives already is no part of what a request costs the garbage collector.
    gc.collect()
    gc.freeze()
