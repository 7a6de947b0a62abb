"""A database in memory whose transactions fail as a test asks for."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from flask import g

from flask_idempotent.engine.transactions import Answer, InspectableTransaction


class UniqueViolation(Exception):
    """The key has an answer already, other than the one to be replaced."""


class SerializationFailure(Exception):
    """What the database raises for a reason of its own, having committed nothing."""


class ConnectionLost(Exception):
    """What the database's driver raises when the connection breaks."""


@dataclass
class _Open:
    """The transaction of one request.

    :param rows: what the view has written and not committed.
    :param committed: whether the view has committed by itself.
    """

    rows: list[str] = field(default_factory=list)
    committed: bool = False


class MemoryTransaction(InspectableTransaction):
    """Rows and answers in memory; the current transaction is that of Flask's context.

    ``before`` and ``after`` hold functions for each method, by its name. A call of the method takes
    the next one, which may raise: before anything was done, or after it, as when a reply is lost.
    """

    def __init__(self) -> None:
        #: What was committed, in this order.
        self.rows: list[str] = []
        self.answers: dict[str, Answer] = {}
        #: The names of the methods that were called, in this order.
        self.calls: list[str] = []
        #: The database's clock, in milliseconds.
        self.now = 0
        self.before: defaultdict[str, deque[Callable[[], object]]] = defaultdict(deque)
        self.after: defaultdict[str, deque[Callable[[], object]]] = defaultdict(deque)

    @property
    def _open(self) -> _Open:
        transaction: _Open = g.setdefault("memory_transaction", _Open())
        return transaction

    def write(self, row: str) -> None:
        """Write a row, as a view does."""
        self._open.rows.append(row)

    def commit_by_itself(self) -> None:
        """Commit what was written, as a view does that should leave this to the library."""
        self._commit_rows()
        self._open.committed = True

    def look_up(self, storage_key: str) -> Answer | None:
        with _Step(self, "look_up"):
            answer = self.answers.get(storage_key)
            return answer and answer._replace(ttl_ms=answer.ttl_ms - self.now)

    def begin(self) -> None:
        with _Step(self, "begin"):
            self._open.committed = False

    def commit(self, answer: Answer | None, *, replaces: bytes | None = None) -> None:
        with _Step(self, "commit" if answer else "commit without answer"):
            if answer is not None:
                self._insert(answer, replaces)
            self._commit_rows()

    def _insert(self, answer: Answer, replaces: bytes | None) -> None:
        stored = self.answers.get(answer.storage_key)
        if stored is not None and stored.record.owner != replaces:
            raise UniqueViolation(answer.storage_key)
        self.answers[answer.storage_key] = answer._replace(ttl_ms=self.now + answer.ttl_ms)

    def _commit_rows(self) -> None:
        self.rows += self._open.rows
        self._open.rows.clear()

    def roll_back(self) -> None:
        with _Step(self, "roll_back"):
            self._open.rows.clear()

    def has_committed(self) -> bool:
        return self._open.committed

    def delete(self, storage_keys: Iterable[str]) -> int:
        return sum(self.answers.pop(key, None) is not None for key in storage_keys)

    def delete_all(self, prefix: str, *, keep: Collection[str]) -> int:
        chosen = {key for key in self.answers if key.startswith(prefix)} - set(keep)
        return self.delete(chosen)

    def prune(self, batch: int) -> int:
        expired = [key for key, answer in self.answers.items() if answer.ttl_ms <= self.now]
        return self.delete(expired[:batch])


class _Step:
    """One call of a method: noted, with what a test has put before and after it."""

    def __init__(self, transaction: MemoryTransaction, name: str) -> None:
        self._transaction = transaction
        self._name = name

    def __enter__(self) -> None:
        self._transaction.calls.append(self._name)
        self._run_next(self._transaction.before)

    def __exit__(self, *raised: object) -> None:
        if raised == (None, None, None):
            self._run_next(self._transaction.after)

    def _run_next(self, functions: dict[str, deque[Callable[[], object]]]) -> None:
        queue = functions[self._name]
        if queue:
            queue.popleft()()


def raising(error: BaseException) -> Callable[[], object]:
    """Make a function that raises an error."""

    def fail() -> object:
        raise error

    return fail
