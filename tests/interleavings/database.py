"""The database of a simulation's views: one answer a key, and transactions that take steps.

A commit is two steps: the answer is inserted, which locks its key, and the transaction is
committed. What can happen to each is a choice of the schedule, see ``DATABASE_FAULTS``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from greenlet import getcurrent

from flask_idempotent.engine.transactions import Answer, Transaction
from flask_idempotent.errors import DatabaseUnavailable
from tests.interleavings.actors import Actor, LateCommand, Point
from tests.interleavings.case import DATABASE_FAULTS
from tests.interleavings.explore import Choice

if TYPE_CHECKING:
    from tests.interleavings.simulation import Simulation


class ConnectionLost(Exception):
    """What the database's driver raises when the connection breaks."""


class UniqueViolation(Exception):
    """What the database raises when the key has another answer."""


def owner_of(answer: Answer | None) -> bytes | None:
    """The owner token of an answer; None without one."""
    return None if answer is None else answer.record.owner


@dataclass(slots=True)
class Asking(Point):
    """Before a statement is sent to the database."""

    name: str

    def steps(self, simulation: Simulation, actor: Actor) -> Iterator[Choice]:
        lock = simulation.database.lock
        if self.name != "insert" or lock is None:
            yield actor.choice(self.name, "database")
        if simulation.database_faults:
            for kind in DATABASE_FAULTS[self.name]:
                if kind != "locked" or lock is not None:
                    yield actor.choice(f"{self.name} {kind}", "database", "database faults")


@dataclass(slots=True, eq=False)
class Open:
    """The transaction of one request.

    :param seen: owner token of the answer that was there when it began.
    :param rows: what its view has written and not committed.
    :param answer: the answer that it has inserted and not committed.
    """

    seen: bytes | None
    rows: list[str] = field(default_factory=list)
    answer: Answer | None = None


class Database(Transaction):
    """A database with one key, and the transactions of all requests.

    :param simulation: what it is a part of.
    """

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        #: The answer that is committed.
        self.answer: Answer | None = None
        #: The transaction that has inserted an answer and has not ended.
        self.lock: Open | None = None
        self._open: dict[object, Open] = {}
        #: What each request's last look-up returned.
        self.seen: dict[object, Answer | None] = {}

    def look_up(self, storage_key: str) -> Answer | None:
        if self._step("look up"):
            raise DatabaseUnavailable("the connection was refused")
        self.seen[getcurrent()] = self.answer
        return self.answer

    def begin(self) -> None:
        self._open[getcurrent()] = Open(owner_of(self.answer))

    def write(self, row: str) -> None:
        """Write a row, as a view does."""
        self._open[getcurrent()].rows.append(row)

    def commit(self, answer: Answer | None, *, replaces: bytes | None = None) -> None:
        transaction = self._open[getcurrent()]
        if answer is not None:
            if self._step("insert"):
                raise DatabaseUnavailable("the key stayed locked")
            self._insert(transaction, answer, replaces)
        fault = self._step("commit")
        if fault == "late":
            self._simulation.late_commands.append(
                LateCommand("late commit", lambda: self._commit(transaction), 0.0)
            )
            self._open[getcurrent()] = Open(transaction.seen)
        elif fault != "dropped":
            self._commit(transaction)
        if fault:
            raise ConnectionLost("no reply to COMMIT")

    def _insert(self, transaction: Open, answer: Answer, replaces: bytes | None) -> None:
        if owner_of(self.answer) != replaces:
            raise UniqueViolation(answer.storage_key)
        transaction.answer, self.lock = answer, transaction

    def _commit(self, transaction: Open) -> None:
        with self._simulation.rules():
            self._simulation.database_checker.committed(transaction, self.answer)
        if transaction.answer is not None:
            self.answer = transaction.answer
        self._end(transaction)

    def _end(self, transaction: Open) -> None:
        transaction.rows.clear()
        transaction.answer = None
        if self.lock is transaction:
            self.lock = None

    def roll_back(self) -> None:
        if getcurrent() in self._open:
            self._end(self._open[getcurrent()])

    def expire(self) -> None:
        """Let the answer's time pass."""
        assert self.answer is not None
        self.answer = self.answer._replace(ttl_ms=0)
        self._simulation.database_checker.expired()

    def forget(self, actor: Actor) -> None:
        """Roll back the transaction of an actor whose process died."""
        if actor in self._open:
            self._end(self._open.pop(actor))

    def _step(self, name: str) -> str:
        """Give control back before a statement; returns the fault that the schedule chooses."""
        if not isinstance(getcurrent(), Actor):
            return ""
        fault = self._simulation.pause(Asking(name)).removeprefix(name).strip()
        if fault:
            self._simulation.database_faults -= 1
            self._simulation.checker.faulty = True
        return fault
