"""How soon waiting requests are answered once the first request is."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.benchmarks.bench import Bench, Findings, Size, Target
from tests.benchmarks.contestants import HOLD, OURS, PEER, Contestant, Hold, environ, fresh_key
from tests.benchmarks.runners import Runner
from tests.benchmarks.series import Series, in_turns
from tests.support.polling import until
from tests.support.redis_servers import Server

#: The command by which a waiter reads the record, by itself or in a script, and how many times it
#: does so before it sleeps: ours reads once more when it is subscribed.
_READS = {OURS: ("set", 2), PEER: ("evalsha", 1)}
#: How many duplicates come at once; more might time out at the store of a busy machine.
_AT_ONCE = 50
#: Milliseconds: the limit for a large group, and the aim for a small one.
_CROWD_LIMIT, _AIM = 150, 3


@dataclass
class Group(Hold):
    """First requests whose views run, and duplicates that wait for them.

    :param keys: a key for each view.
    """

    keys: list[str]
    waiters: int = 0
    threads: list[threading.Thread] = field(default_factory=list)
    #: The key of each answered waiter, and when it was answered.
    answered: list[tuple[str, float]] = field(default_factory=list)
    complete: threading.Event = field(default_factory=threading.Event)
    over: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        super().__init__()
        self.over.acquire()

    def begin(self, contestant: Contestant) -> None:
        """Send the first requests; return when their views run."""
        self._start(contestant, self.keys, [])
        for _ in self.keys:
            assert self.begun.acquire(timeout=30), "a view did not begin"

    def join(self, contestant: Contestant, number: int) -> None:
        """Send duplicates, to each key in turn."""
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
            # The threads of a server outlive their requests; here, a thread that ends would slow
            # the others down. A lock, because to wait for an event takes the others' time.
            with self.over:
                pass

        started = [threading.Thread(target=ask, args=(key,)) for key in keys]
        for thread in started:
            thread.start()
        self.threads += started

    def wake(self) -> list[float]:
        """Let the views return.

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


def let_wait(runner: Runner, bench: Bench, keys: int, waiters: int) -> None:
    """Send first requests and duplicates; return when all duplicates are asleep."""
    server, (command, reads) = bench.server, _READS.get(runner.name, _READS[OURS])
    runner.run(_begin, keys)
    for first in range(0, waiters, _AT_ONCE):
        number = min(_AT_ONCE, waiters - first)
        expected = _called(server, command) + reads * number
        runner.run(_join, number)
        until(partial(_has_called, server, command, expected), 30)
    time.sleep(bench.size.settle)


def _has_called(server: Server, command: str, number: int) -> bool:
    return _called(server, command) >= number


@dataclass(frozen=True)
class _Kind:
    """A kind of group, and which of its delays counts.

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


def _delays(runner: Runner, bench: Bench, kind: _Kind) -> float:
    let_wait(runner, bench, kind.keys, kind.waiters)
    return kind.choose(runner.run(wake))


def _in_turns(bench: Bench, kind: _Kind, *names: str) -> list[Series]:
    with bench.runners(*names) as made:
        turns = {name: partial(_delays, runner, bench, kind) for name, runner in made.items()}
        measured = in_turns(turns, kind.rounds)
    return [
        Series(f"{name}, {kind.title}", "ms", tuple(delays)) for name, delays in measured.items()
    ]


def measure(bench: Bench) -> Findings:
    """Measure small groups of ours and the peer's, and a large group of ours."""
    findings = Findings("From the end of the first view to the answer of its waiters", [])
    *groups, crowd = _kinds(bench.size)
    for kind in groups:
        ours, theirs = _in_turns(bench, kind, OURS, bench.peer)
        findings.series.extend((ours, theirs))
        name = f"{kind.title} (limit: half of {bench.peer}'s)"
        findings.targets.append(Target(name, ours.median, theirs.median / 2, "ms", aim=_AIM))
    # The peer has too few connections for a large group.
    (ours,) = _in_turns(bench, crowd, OURS)
    findings.series.append(ours)
    findings.targets.append(Target(crowd.title, ours.median, _CROWD_LIMIT, "ms"))
    return findings
