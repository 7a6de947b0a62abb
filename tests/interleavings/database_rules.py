"""The rules of exactly once: what holds at each step, whatever the store forgets.

Until its answer expires, a key has one commit of a view's rows, and one answer, in whose place only
a corrected request's may come. What clients and the store are given is an answer that the database
has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlet import getcurrent

from flask_idempotent.records import CompletedRecord, Record
from tests.interleavings.case import INVALID
from tests.interleavings.database import owner_of

if TYPE_CHECKING:
    from flask_idempotent.engine.transactions import Answer
    from tests.interleavings.case import Request
    from tests.interleavings.database import Open
    from tests.interleavings.simulation import Simulation


def run_of(record: CompletedRecord) -> str:
    """The run that has answered."""
    return dict(record.headers)["Run"]


class DatabaseChecker:
    """Follows the database of one simulation and fails when a rule is broken."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        #: The rows that were committed since an answer expired.
        self._rows: list[str] = []
        #: The runs whose answers were ever committed.
        self._answered: set[str] = set()

    def runs(self, request: Request) -> None:
        """A view begins."""
        answer = self._simulation.database.answer
        if answer is not None and answer.ttl_ms > 0:
            is_invalid = answer.record.status == INVALID
            assert is_invalid, "a run though the database has the answer"
            assert not _is_for(answer, request), "a run though the database has the answer"

    def committed(self, transaction: Open, replaced: Answer | None) -> None:
        """A transaction is committed.

        :param replaced: the answer that was there.
        """
        self._rows += transaction.rows
        assert len(self._rows) <= 1, "two commits of one key"
        assert transaction.answer is not None, "rows were committed without an answer"
        self._answered.add(run_of(transaction.answer.record))
        was_seen = owner_of(replaced) == transaction.seen
        assert was_seen, "an answer that its run did not see was replaced"

    def expired(self) -> None:
        """The answer has expired, and another run may begin."""
        self._rows.clear()

    def changed(self, record: Record | None) -> None:
        """The store has carried out a command."""
        if isinstance(record, CompletedRecord):
            assert run_of(record) in self._answered, "the store has an answer that is not committed"

    def given(self, request: Request, run: str) -> None:
        """A client has the response of a run."""
        assert run.startswith(request.payload), "another's response"
        assert run in self._answered, "a client has an answer that is not committed"

    def refused(self, request: Request) -> None:
        """A client is told that its key belongs to another request."""
        seen = self._simulation.database.seen
        assert getcurrent() in seen, "a client is refused without looking its answer up"
        answer = seen[getcurrent()]
        is_its_own = answer is not None and answer.ttl_ms > 0 and _is_for(answer, request)
        assert not is_its_own, "a client is refused its own answer"

    def finish(self) -> None:
        """Check what must hold when all actors have ended."""
        assert self._simulation.database.lock is None, "a transaction was left open"


def _is_for(answer: Answer, request: Request) -> bool:
    return run_of(answer.record).startswith(request.payload)
