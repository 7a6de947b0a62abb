"""How soon waiters answer once the first request has, and what waiting costs the server."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.benchmarks.bench import Bench, Findings, Size, Target
from tests.benchmarks.contestants import HOLD, OURS, PEER, Contestant, Hold, environ, fresh_key
from tests.benchmarks.lanes import Lane
from tests.benchmarks.series import Series, in_turns
from tests.support.polling import until
from tests.support.redis_servers import Server

#: What a look of a waiter's calls on the server, by itself or in a script, and how often a waiter
#: looks before it sleeps: ours again once it is subscribed.
_LOOKS = {OURS: ("set", 2), PEER: ("evalsha", 1)}
#: So many come at once, which a busy machine can serve before their patience with the store ends.
_AT_ONCE = 50
#: Milliseconds: for a crowd, and what is hoped for in a small group.
_CROWD_LIMIT, _AIM = 150, 3


@dataclass
class Group(Hold):
    """First requests whose views run, and duplicates that wait for them.

    :param keys: a key for each view.
    """

    keys: list[str]
    waiters: int = 0
    threads: list[threading.Thread] = field(default_factory=list)
    #: Whose answers came when.
    answered: list[tuple[str, float]] = field(default_factory=list)
    complete: threading.Event = field(default_factory=threading.Event)
    over: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        super().__init__()
        self.over.acquire()

    def begin(self, contestant: Contestant) -> None:
        """Let the views begin."""
        self._start(contestant, self.keys, [])
        for _ in self.keys:
            assert self.begun.acquire(timeout=30), "a view did not begin"

    def join(self, contestant: Contestant, number: int) -> None:
        """Let duplicates come, to each key in its turn."""
        turns = range(self.waiters, self.waiters + number)
        self.waiters += number
        self._start(contestant, [self.keys[turn % len(self.keys)] for turn in turns], self.answered)

    def _start(
        self, contestant: Contestant, keys: list[str], answered: list[tuple[str, float]]
    ) -> None:
        def ask(key: str) -> None:
            status, _, _ = contestant.answer(environ(key, "/held"))
            now = time.perf_counter()
            assert status.startswith("201"), status
            answered.append((key, now))
            if len(self.answered) == self.waiters:
                self.complete.set()
            # A server's threads do not end with a request; their ends would slow the others down.
            # To wait for an event would take the next one's time.
            with self.over:
                pass

        started = [threading.Thread(target=ask, args=(key,)) for key in keys]
        for thread in started:
            thread.start()
        self.threads += started

    def wake(self) -> list[float]:
        """Let the views end.

        :returns: milliseconds from the end of a view to each waiter's answer.
        """
        self.go_on.set()
        assert self.complete.wait(60), "a waiter has no replay"
        self.over.release()
        for thread in self.threads:
            thread.join(60)
        return [1000 * (moment - self.ended[key]) for key, moment in self.answered]


def _begin(contestant: Contestant, keys: int) -> None:
    group = Group([fresh_key() for _ in range(keys)])
    contestant.app.extensions[HOLD] = group
    group.begin(contestant)


def _join(contestant: Contestant, number: int) -> None:
    contestant.app.extensions[HOLD].join(contestant, number)


def wake(contestant: Contestant) -> list[float]:
    """Wake the group that waits; see ``Group.wake``."""
    group: Group = contestant.app.extensions[HOLD]
    return group.wake()


def _called(server: Server, command: str) -> int:
    return server.counts().get(command, 0)


def let_wait(lane: Lane, bench: Bench, keys: int, waiters: int) -> None:
    """Let views begin and duplicates come; return when all of these are asleep."""
    server, (command, looks) = bench.server, _LOOKS.get(lane.name, _LOOKS[OURS])
    lane.run(_begin, keys)
    for first in range(0, waiters, _AT_ONCE):
        number = min(_AT_ONCE, waiters - first)
        expected = _called(server, command) + looks * number
        lane.run(_join, number)
        until(partial(_has_called, server, command, expected), 30)
    time.sleep(bench.size.settle)


def _has_called(server: Server, command: str, number: int) -> bool:
    return _called(server, command) >= number


@dataclass(frozen=True)
class _Kind:
    """A group, and which of its delays matters.

    :param title: what the tables call it.
    :param keys: how many views run.
    :param waiters: how many duplicates wait for them.
    """

    title: str
    keys: int
    waiters: int
    rounds: int
    choose: Callable[[list[float]], float]


def _kinds(size: Size) -> list[_Kind]:
    few, rare = size.waiters, max(1, size.wakes // 7)
    return [
        _Kind(f"{few} waiters on one key", 1, few, size.wakes, statistics.median),
        _Kind(f"{few} waiters on {few} keys", few, few, size.wakes, statistics.median),
        _Kind(f"the last of {size.crowd:,} waiters on one key", 1, size.crowd, rare, max),
    ]


def _delays(lane: Lane, bench: Bench, kind: _Kind) -> float:
    let_wait(lane, bench, kind.keys, kind.waiters)
    return kind.choose(lane.run(wake))


def _in_turns(bench: Bench, kind: _Kind, *names: str) -> list[Series]:
    with bench.lanes(*names) as made:
        turns = {name: partial(_delays, lane, bench, kind) for name, lane in made.items()}
        found = in_turns(turns, kind.rounds)
    return [Series(f"{name}, {kind.title}", "ms", tuple(those)) for name, those in found.items()]


def measure(bench: Bench) -> Findings:
    """Small groups, and a crowd."""
    findings = Findings("From the end of the first view to the answer of its waiters", [])
    *groups, crowd = _kinds(bench.size)
    for kind in groups:
        ours, theirs = _in_turns(bench, kind, OURS, bench.peer)
        findings.series.extend((ours, theirs))
        name = f"{kind.title} (limit: half of {bench.peer}'s)"
        findings.targets.append(Target(name, ours.median, theirs.median / 2, "ms", aim=_AIM))
    # The peer has too few connections for a crowd.
    (ours,) = _in_turns(bench, crowd, OURS)
    findings.series.append(ours)
    findings.targets.append(Target(crowd.title, ours.median, _CROWD_LIMIT, "ms"))
    return findings
