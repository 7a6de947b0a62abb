"""Exploring: every order in which the steps of a simulation can happen, each order once.

Each schedule starts a new simulation and is driven by choices, one at a time. The search goes depth
first and replays the choices that lead to the next schedule. Two choices that touch nothing in
common commute, and of the orders that differ only by those, one is run (sleep sets).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

#: How many different schedules ran in this session, by the store.
ran: Counter[str] = Counter()


@dataclass(frozen=True, slots=True)
class Choice:
    """One step that can be taken now.

    :param who: the actor.
    :param what: the step.
    :param touches: what the step reads or changes; empty for everything.
    """

    who: str
    what: str
    touches: frozenset[str] = field(compare=False)

    def commutes(self, other: Choice) -> bool:
        return bool(self.touches and other.touches) and self.touches.isdisjoint(other.touches)

    def __str__(self) -> str:
        return f"{self.who}: {self.what}"


class Explorable(Protocol):
    def choices(self) -> list[Choice]: ...
    def do(self, choice: Choice) -> None: ...
    def finish(self) -> None: ...
    def abandon(self) -> None: ...


MakeSimulation = Callable[[], Explorable]


class BrokenRule(AssertionError):
    """A rule was broken; the message has the schedule that broke it."""


@dataclass(slots=True)
class _Node:
    choices: list[Choice]
    sleep: set[Choice]
    current: Choice

    def after(self) -> set[Choice]:
        return {choice for choice in self.sleep if choice.commutes(self.current)}

    def turn(self) -> bool:
        """Continue with the next choice that is not asleep."""
        self.sleep.add(self.current)
        rest = [choice for choice in self.choices if choice not in self.sleep]
        if rest:
            self.current = rest[0]
        return bool(rest)


def explore(make: MakeSimulation) -> int:
    """Run every schedule.

    :returns: how many there are.
    """
    count = 0
    path: list[_Node] = []
    while True:
        count += _run(make(), path)
        while path and not path[-1].turn():
            path.pop()
        if not path:
            return count


def _run(simulation: Explorable, path: list[_Node]) -> bool:
    steps = [node.current for node in path]
    try:
        for step in steps:
            simulation.do(step)
        sleep = path[-1].after() if path else set()
        while choices := simulation.choices():
            awake = [choice for choice in choices if choice not in sleep]
            if not awake:
                # Another order of the same steps was run.
                return False
            path.append(_Node(choices, sleep, awake[0]))
            steps.append(awake[0])
            simulation.do(awake[0])
            sleep = path[-1].after()
        simulation.finish()
        return True
    except AssertionError as error:
        raise BrokenRule(_told(error, steps)) from error
    finally:
        simulation.abandon()


def sample(make: MakeSimulation, count: int, seed: int = 1) -> int:
    """Run ``count`` random schedules, the same each time.

    :returns: how many different ones were among them.
    """
    draw = random.Random(seed)
    seen: set[tuple[str, ...]] = set()
    for _ in range(count):
        seen.add(tuple(map(str, _walk(make(), draw))))
    return len(seen)


def _walk(simulation: Explorable, draw: random.Random) -> list[Choice]:
    steps: list[Choice] = []
    try:
        while choices := simulation.choices():
            steps.append(draw.choice(choices))
            simulation.do(steps[-1])
        simulation.finish()
        return steps
    except AssertionError as error:
        raise BrokenRule(_told(error, steps)) from error
    finally:
        simulation.abandon()


def follow(simulation: Explorable, schedule: str) -> None:
    """Run one schedule, written as the steps of a broken rule's message are.

    Steps that are missing at its end are the first that can be taken.
    """
    steps: list[Choice] = []
    try:
        for line in filter(None, map(str.strip, schedule.splitlines())):
            able = {str(choice): choice for choice in simulation.choices()}
            assert line in able, f"{line!r} is not among {sorted(able)}"
            steps.append(able[line])
            simulation.do(steps[-1])
        while choices := simulation.choices():
            steps.append(choices[0])
            simulation.do(choices[0])
        simulation.finish()
    except AssertionError as error:
        raise BrokenRule(_told(error, steps)) from error
    finally:
        simulation.abandon()


def _told(error: AssertionError, steps: list[Choice]) -> str:
    lines = "".join(f"\n    {step}" for step in steps)
    return f"{error}\nafter the steps{lines}"
