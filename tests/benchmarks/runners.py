"""Runners: each contestant serves its requests in a process of its own, one contestant at a time.

So the threads, hooks and garbage of one library do not slow down the others.
"""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from tests.benchmarks.contestants import BARE, BODY_SIZE, Contestant, environ, fresh_key, make
from tests.benchmarks.pinning import pin

T = TypeVar("T")


class Runner(Protocol):
    """Runs one contestant; its name is the contestant's."""

    name: str

    def wait_until_ready(self) -> None:
        """Wait until the contestant is ready."""

    def run(self, act: Callable[..., T], *arguments: Any) -> T:
        """Call a function of a module, with the contestant as its first argument."""

    def close(self) -> None:
        """Close the contestant and its process."""


class _Process:
    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._pool = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_enter, initargs=(name, url)
        )
        self._entered: Future[None] = self._pool.submit(_act, _warm_up)

    def wait_until_ready(self) -> None:
        self._entered.result(timeout=60)

    def run(self, act: Callable[..., T], *arguments: Any) -> T:
        return self._pool.submit(_act, act, *arguments).result(timeout=120)

    def close(self) -> None:
        self.run(Contestant.close)
        self._pool.shutdown()


class _Here:
    """Runs a contestant in this process, for the test of the benchmarks: it starts faster."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._contestant = Contestant(name, make(name, url))

    def wait_until_ready(self) -> None:
        pass

    def run(self, act: Callable[..., T], *arguments: Any) -> T:
        return act(self._contestant, *arguments)

    def close(self) -> None:
        self._contestant.close()


@contextmanager
def runners(url: str, *names: str, apart: bool = True) -> Iterator[dict[str, Runner]]:
    """Start contestants.

    :param url: where records live.
    :param apart: each in a process; else in this one.
    """
    made: dict[str, Runner] = {name: (_Process if apart else _Here)(name, url) for name in names}
    try:
        for runner in made.values():
            runner.wait_until_ready()
        yield made
    finally:
        for runner in made.values():
            runner.close()


# In a contestant's process.

_contestant: Contestant | None = None


def _enter(name: str, url: str) -> None:
    global _contestant
    pin()
    _contestant = Contestant(name, make(name, url))


def _act(act: Callable[..., T], *arguments: Any) -> T:
    return act(_contestant, *arguments)


def _warm_up(contestant: Contestant) -> None:
    for _ in range(50):
        contestant.beside.answer(environ())
        key = fresh_key()
        for each in (None, key, key):
            status, headers, body = contestant.answer(environ(each))
            assert status.startswith("201"), (contestant.name, status)
            assert len(body) == BODY_SIZE, contestant.name
        replayed = any(name.lower().endswith("-replayed") for name in headers)
        assert replayed == (contestant.name != BARE), (contestant.name, headers)
    # The garbage collector is to look at the objects of the requests only.
    gc.collect()
    gc.freeze()
