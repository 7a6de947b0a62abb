"""Vigils: awake while replies come soon, asleep otherwise."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from flask_idempotent.stores.redis import vigil as module
from flask_idempotent.stores.redis.vigil import Vigil

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def connection(sock: object = None) -> Any:
    return SimpleNamespace(_sock=sock)


class Looks:
    """What the looks find, and how many there were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.find = False
        self.number = 0
        monkeypatch.setattr(module, "_look", self)

    def __call__(self, sock: object) -> bool:
        self.number += 1
        return self.find

    def until_next(self, vigil: Vigil) -> int:
        """How many replies are waited for asleep until somebody looks."""
        before, asleep = self.number, -1
        while self.number == before:
            vigil.keep(connection())
            asleep += 1
        return asleep


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


class Ticks:
    """A clock that has moved by the next of these steps whenever it is read."""

    def __init__(self, *steps: float) -> None:
        self._steps = iter((0.0, *steps))
        self._now = 0.0

    def __call__(self) -> float:
        self._now += next(self._steps)
        return self._now


Keep = Callable[..., bool]


@pytest.fixture
def keep(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> Keep:
    """Keeps a vigil at our end, whose looks take so many seconds."""

    def kept(*seconds: float) -> bool:
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=Ticks(*seconds)))
        return Vigil().keep(connection(ends[0]))

    return kept


class TestLook:
    def test_something_to_read(self, ends: Ends, keep: Keep) -> None:
        """A vigil ends as soon as the reply is there, and leaves it to be read."""
        ours, theirs = ends
        theirs.send(b"+OK")
        assert keep(1e-6) is True
        assert ours.recv(10) == b"+OK"

    def test_comes_meanwhile(self, ends: Ends, keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
        """A reply that comes while somebody is awake is noticed."""
        _, theirs = ends
        monkeypatch.setattr(os, "sched_yield", lambda: theirs.send(b"+"))
        assert keep(1e-6, 1e-6) is True

    def test_closed(self, ends: Ends, keep: Keep) -> None:
        """A connection that the server closed is left to who reads from it."""
        _, theirs = ends
        theirs.close()
        assert keep(1e-6) is True

    def test_in_vain(self, keep: Keep) -> None:
        """Where nothing comes it gives up after a tenth of a millisecond."""
        assert keep(*[30e-6] * 4) is False

    def test_disturbed(self, ends: Ends, keep: Keep) -> None:
        """It is in vain where others need the processor, even if the reply is there."""
        _, theirs = ends
        theirs.send(b"+")
        assert keep(50e-6) is False


class TestRest:
    def test_replies_that_come_soon(self, looks: Looks) -> None:
        """Somebody is awake for every reply while they come soon."""
        looks.find, vigil = True, Vigil()
        assert [looks.until_next(vigil) for _ in range(5)] == [0] * 5

    def test_replies_that_do_not(self, looks: Looks) -> None:
        """Each vigil in vain doubles the rest until the next, up to a thousand replies."""
        vigil = Vigil()
        rests = [looks.until_next(vigil) for _ in range(13)]
        assert rests == [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1023, 1023]

    def test_again_soon(self, looks: Looks) -> None:
        """One that was not in vain ends the rest, and halves the next."""
        vigil = Vigil()
        assert [looks.until_next(vigil) for _ in range(4)] == [0, 1, 3, 7]
        looks.find = True
        assert [looks.until_next(vigil) for _ in range(3)] == [15, 0, 0]
        looks.find = False
        assert [looks.until_next(vigil) for _ in range(3)] == [0, 3, 7]


class TestImpossible:
    @pytest.mark.parametrize(
        ("module", "name", "instead"),
        [
            pytest.param(select, "poll", None, id="no-poll"),
            pytest.param(select, "poll", type("poll", (), {}), id="gevent"),
            pytest.param(os, "sched_yield", None, id="no-yield"),
        ],
    )
    def test_asleep(
        self,
        looks: Looks,
        monkeypatch: pytest.MonkeyPatch,
        module: object,
        name: str,
        instead: Callable[[], object] | None,
    ) -> None:
        """Nobody stays awake where the system cannot, or where greenlets share the thread."""
        if instead is None:
            monkeypatch.delattr(module, name, raising=False)
        else:
            monkeypatch.setattr(module, name, instead)
        assert Vigil().keep(connection()) is False
        assert looks.number == 0
