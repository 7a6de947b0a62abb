"""A simulation: requests, workers and a store, of which a schedule says who takes the next step.

A store gives control back before each command, after it where that can matter, and while it waits
to be woken. Time stands still unless a choice moves it. What can happen besides the steps of the
actors: a process crashes, a lease passes, the store loses its record, an answer in the database
expires, and one of the ``FAULTS`` or ``DATABASE_FAULTS`` hits a command or a statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from greenlet import GreenletExit, getcurrent

from flask_idempotent._timing import REPLY_TIMEOUT
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.records import Record, RunningRecord
from flask_idempotent.stores.base import Store
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.stores.redis.commands import steps_key
from flask_idempotent.stores.waiters import Waiter
from tests.interleavings.accidents import accidents
from tests.interleavings.actors import (
    Actor,
    LateCommand,
    Listening,
    Point,
    Replied,
    Resting,
    Sending,
)
from tests.interleavings.case import KEY, LEASE, Case
from tests.interleavings.database import Database
from tests.interleavings.database_rules import DatabaseChecker
from tests.interleavings.explore import Choice
from tests.interleavings.processes import Processes
from tests.interleavings.rules import Checker
from tests.interleavings.server_lease import ServerLease
from tests.interleavings.step_rules import StepChecker
from tests.interleavings.stopped_time import Time

#: More steps than any schedule has.
MOST_STEPS = 500


class Simulation(Processes):
    """Runs one schedule.

    :param case: who is there and what may happen.
    :param store: an empty store; what it keeps is looked at after each command.
    :param database: what kind of database keeps the views' rows.
    """

    def __init__(
        self, case: Case, store: Store, time: Time, database: type[Database] = Database
    ) -> None:
        self.case = case
        self.time = time
        time.now = 1000.0
        self.store = store
        self.lapses, self.crashes = case.lapses, case.crashes
        self.losses, self.faults = case.losses, case.faults
        self.database_faults, self.expiries = case.database_faults, case.expiries
        self.hub = getcurrent()
        self.steps = 0
        self.lease_ends = 0.0
        self.checker = Checker(self)
        self.step_checker = StepChecker(self)
        self.database = database(self)
        self.database_checker = DatabaseChecker(self)
        self.waiters: list[Waiter] = []
        self.late_commands: list[LateCommand] = []
        self._taken: Choice | None = None
        self.server_lease = ServerLease(self) if not isinstance(store, MemoryStore) else None
        self.stack = ExitStack()
        self._broken: AssertionError | None = None
        names = [request.process for request in case.requests]
        self.engines = {}
        for request in case.requests:
            if request.process not in self.engines:
                self.engines[request.process] = self._engine(request)
        self.shared = {name for name in names if names.count(name) > 1 or case.renewals}
        self.actors: list[Actor] = []
        for number, request in enumerate(case.requests, 1):
            self._add(f"request {number}", request.process, self._request, number, request)
        for name in self.engines:
            self._add(f"worker of {name}", name, self._work, name)

    # What the stores of the engines call.

    @property
    def current(self) -> Actor:
        actor = getcurrent()
        assert isinstance(actor, Actor)
        return actor

    def pause(self, point: Point) -> str:
        """Give control back; returns the step that was chosen."""
        self.current.point = point
        if not self.current.killed:
            self.hub.switch()
        if self.current.killed:
            raise GreenletExit
        assert self._taken is not None
        return self._taken.what

    def call(self, name: str, run: Callable[[], Any]) -> Any:
        """Carry out one command, with the fault that the schedule chooses."""
        if getcurrent() is self.hub:
            return self._carry_out(run)
        actor = self.current
        fault = self.pause(Sending(name)).removeprefix(name).strip()
        actor.failed = fault in ("lost", "late", "dropped")
        if fault:
            self.faults -= 1
            self.checker.faulty = True
        if fault in ("late", "overtaken"):
            self.late_commands.append(
                LateCommand(f"late {name}", run, self.time.now + REPLY_TIMEOUT)
            )
        if fault in ("late", "dropped"):
            self.time.now += REPLY_TIMEOUT
            raise StoreUnavailable("no reply")
        if fault == "unknown":
            return [None]
        if fault == "overtaken":
            return self.call(name, run)
        result = self._carry_out(run)
        if fault == "resent":
            return self.call(name, run)
        if self.lapses or self.current.process in self.shared:
            # Otherwise all that can happen before the reply can happen after it as well.
            self.pause(Replied())
        if fault == "lost":
            self.time.now += REPLY_TIMEOUT
            raise StoreUnavailable("no reply")
        return result

    def _carry_out(self, run: Callable[[], Any]) -> Any:
        before = self.record()
        with self.rules():
            result = run()
            after = self.record()
            self.checker.changed(before, after)
            if self.case.has_steps:
                self.step_checker.changed(after)
            if self.case.transaction:
                self.database_checker.changed(after)
        if self.server_lease is not None:
            self.server_lease.follow(before, after)
        return result

    @contextmanager
    def rules(self) -> Iterator[None]:
        """Note the first rule that is broken: the code around it may handle the exception."""
        try:
            yield
        except AssertionError as error:
            self._broken = self._broken or error
            raise

    def _check_rules(self) -> None:
        if self._broken is not None:
            raise self._broken

    def record(self) -> Record | None:
        return self.store.read(KEY)

    def lease_begins(self) -> None:
        """A lease begins: the store has granted or renewed a claim."""
        self.lease_ends = self.time.now + LEASE

    def lease_is_over(self, owner: bytes) -> None:
        """An owner that was to decide has given up: the next one is asked at once."""
        self.lease_ends = self.time.now
        self.checker.lapsed(owner)

    @property
    def lapsed(self) -> bool:
        """Whether the last lease is over."""
        return self.time.now >= self.lease_ends

    # What the search calls.

    def choices(self) -> list[Choice]:
        able = [step for actor in self.actors for step in actor.point.steps(self, actor)]
        able += [
            Choice("server", command.name, frozenset({"store", "database"}))
            for command in self.late_commands
        ]
        return able + list(accidents(self)) or self._passing()

    def _passing(self) -> list[Choice]:
        waits = [(a, a.point) for a in self.actors if isinstance(a.point, Listening)]
        if not waits:
            return []
        if not any(actor.failed for actor, _ in waits):
            self.checker.all_sleep()
        first = min(point.until for _, point in waits)
        late = [actor for actor, point in waits if point.until == first]
        return [Choice(actor.name, "sleeps", frozenset()) for actor in late]

    def do(self, choice: Choice) -> None:
        self._taken = choice
        self.steps += 1
        assert self.steps < MOST_STEPS, "it goes on for ever"
        if choice.who == "time":
            self.lapses -= 1
            self.advance(LEASE + 1)
        elif choice.who == "crash":
            self._crash(choice.what)
        elif choice.who == "database":
            self.expiries -= 1
            self.database.expire()
        elif choice.what == "loses the record":
            self.losses -= 1
            self.lose()
        elif choice.who == "server":
            self._late(choice.what)
        else:
            self._step(next(actor for actor in self.actors if actor.name == choice.who), choice)
        self._check_rules()

    def _step(self, actor: Actor, choice: Choice) -> None:
        if choice.what == "polls":
            actor.polls -= 1
        if choice.what == "sleeps":
            assert isinstance(actor.point, Listening)
            self.advance(max(0.0, actor.point.until - self.time.now))
        actor.switch()
        if actor.dead:
            self.actors.remove(actor)

    def advance(self, seconds: float) -> None:
        self.time.now += seconds
        if self.server_lease is not None:
            self.server_lease.advance()
        record = self.record()
        if isinstance(record, RunningRecord) and self.lapsed:
            self.checker.lapsed(record.owner)

    def _crash(self, process: str) -> None:
        self.crashes -= 1
        self.checker.crashed = True
        for actor in [actor for actor in self.actors if actor.process == process]:
            self.actors.remove(actor)
            actor.kill()
            self.database.forget(actor)
        self.engines.pop(process).worker.reset()

    def lose(self) -> None:
        """The store's record is gone."""
        if isinstance(self.store, MemoryStore):
            self.store._entries.clear()
        else:
            self.store._client.execute("UNLINK", KEY, steps_key(KEY))  # type: ignore[attr-defined]
        self.checker.lost()
        self.step_checker.lost()

    def _late(self, name: str) -> None:
        command = next(command for command in self.late_commands if command.name == name)
        self.late_commands.remove(command)
        self.time.now = max(self.time.now, command.due)
        self.checker.late = name
        self._carry_out(command.run)
        self.checker.late = ""

    def finish(self) -> None:
        """Check what must hold at the end of a schedule, and that the key is not stuck."""
        for process, engine in self.engines.items():
            assert not engine.worker.pending, f"{process} has work left"
            assert not engine.worker.renewals, f"{process} renews what is settled"
        for actor in self.actors:
            assert isinstance(actor.point, Resting), f"{actor.name} hangs"
        self.checker.finish()
        self.database_checker.finish()
        self.advance(LEASE + 1)
        last = replace(self.case.requests[0], process="the last", timeout=0.0, fails=False)
        self.engines[last.process] = self._engine(last)
        self._serve(0, last)
        self._check_rules()

    def abandon(self) -> None:
        for actor in self.actors:
            actor.kill()
        self.actors.clear()
        for engine in self.engines.values():
            engine.worker.reset()
        self.stack.close()
