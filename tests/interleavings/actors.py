"""Actors, and the points where they stand between two steps.

Each actor is a greenlet that runs the real engine. It gives control back at a point, which names
the steps that can be taken from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from greenlet import greenlet

from flask_idempotent.stores.waiters import Waiter
from tests.interleavings.explore import Choice

if TYPE_CHECKING:
    from tests.interleavings.simulation import Simulation


class Lock:
    """A lock whose waiters give control back."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.taken = False

    def acquire(self, blocking: bool = True) -> bool:
        if self.taken and not blocking:
            return False
        if self.taken:
            self._simulation.pause(Locked(self))
        self.taken = True
        return True

    def release(self) -> None:
        self.taken = False

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Point:
    def steps(self, simulation: Simulation, actor: Actor) -> Iterator[Choice]:
        raise NotImplementedError


class Arriving(Point):
    def steps(self, simulation: Simulation, actor: Actor) -> Iterator[Choice]:
        yield actor.choice("arrives")


@dataclass(slots=True)
class Locked(Point):
    lock: Lock

    def steps(self, simulation: Simulation, actor: Actor) -> Iterator[Choice]:
        if not self.lock.taken:
            yield actor.choice("goes on")


@dataclass(slots=True)
class Sending(Point):
    name: str

    def steps(self, simulation: Simulation, actor: Actor) -> Iterator[Choice]:
        yield actor.choice(self.name, "store")
        if self.name != "listen" and simulation.faults:
            for kind in simulation.case.kinds:
                if kind == "unknown" and self.name != "renew":
                    continue
                yield actor.choice(f"{self.name} {kind}", "store", "faults")


class Replied(Point):
    def steps(self, simulation: Simulation, actor: Actor) -> Iterator[Choice]:
        yield actor.choice("reply")


@dataclass(slots=True)
class Listening(Point):
    waiter: Waiter
    until: float

    def steps(self, simulation: Simulation, actor: Actor) -> Iterator[Choice]:
        if self.notified:
            yield actor.choice("notified", "store")
        if simulation.time.now >= self.until:
            yield actor.choice("time is over", "store")
        elif actor.polls:
            yield actor.choice("polls")

    @property
    def notified(self) -> bool:
        return self.waiter.notified


class Resting(Point):
    """A worker between two rounds."""

    def steps(self, simulation: Simulation, actor: Actor) -> Iterator[Choice]:
        worker = simulation.engines[actor.process].worker
        # While another thread tries the pending writes, a round does nothing.
        work = worker.pending and not worker.pending.is_running
        if work or (actor.rounds and worker.renewals):
            yield actor.choice("round")


class Actor(greenlet):
    """Something that takes steps.

    :param name: its name in schedules.
    :param process: the process that it lives in.
    """

    def __init__(
        self, simulation: Simulation, name: str, process: str, work: Callable[[], None]
    ) -> None:
        super().__init__(work, simulation.hub)
        self.name = name
        self.process = process
        self.point: Point = Arriving()
        self.polls = simulation.case.polls
        #: Its last command failed, so that it knows nothing until its next poll.
        self.failed = False
        self.rounds = simulation.case.renewals
        self.killed = False

    def kill(self) -> None:
        """End it at once: its cleanup reaches neither the store nor the database."""
        self.killed = True
        self.throw()

    def choice(self, what: str, *touches: str) -> Choice:
        return Choice(self.name, what, frozenset({f"process {self.process}", *touches}))


@dataclass(slots=True)
class LateCommand:
    """A command that nobody waits for any longer, and that the server carries out later."""

    name: str
    run: Callable[[], object]
    due: float
