"""The rules: what must hold at each step of each schedule, and at its end.

A key is granted to another run only when every earlier grant is excused: its view failed and it was
released; its lease passed without a renewal (its owner died, or was too late); or the store lost
the record and nobody has put it back. Its attempt number is higher than that of each run that may
still go on. Nothing excuses a grant after a response was stored or offered but a record lost since,
and a corrected request in the place of an invalid one. So there is at most one run, and one more
for each of those.

With a corrected request, and with another payload after a release, an era begins: what the runs of
earlier eras answer is refused, and each era has one answer.

Where functions decide what follows a death, each is asked about the last run that may have begun,
and never about another that was asked; and after a death no view runs of which nobody was asked.

What a late claim of the server's leaves behind is the one thing that nobody looks after: the
command of a request that was answered 503, carried out after the release that followed it. It ends
with its lease.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlet import getcurrent

from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.outcomes import (
    FingerprintMismatch,
    Outcome,
    OutcomeUnknown,
    Replay,
    StillRunning,
)
from flask_idempotent.records import CompletedRecord, Record, ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import Completion
from tests.interleavings.case import INVALID, KEY, LEASE, LIFETIME
from tests.interleavings.grant import Grant
from tests.stores.harness import time_left

if TYPE_CHECKING:
    from tests.interleavings.case import Request
    from tests.interleavings.simulation import Simulation


def corrects(before: CompletedRecord, record: RunningRecord) -> bool:
    """Whether a request may replace this response."""
    return before.status_code == INVALID and before.fingerprint != record.fingerprint


class Checker:
    """Follows one simulation and fails when a rule is broken."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._grants: dict[bytes, Grant] = {}
        self._claims: list[tuple[str, Claim]] = []
        self._before: Record | None = None
        self._answered_by: set[bytes] = set()
        self._stored: set[bytes] = set()
        self._replays: dict[int, set[bytes]] = {}
        self._era = 0
        self._waited: set[object] = set()
        self._excuses = 0
        self._moves = 0
        self._runs: set[int] = set()
        self._asked: set[int] = set()
        #: The late command that is carried out now.
        self.late = ""
        self.faulty = self.crashed = self.orphaned = self.any_lost = False

    # What happens.

    def lapsed(self, owner: bytes) -> None:
        """A lease is over."""
        self._moves += 1
        grant = self._grants[owner]
        self._excuses += not grant.lapsed
        grant.lapsed = grant.ever_lapsed = True

    def lost(self) -> None:
        """The store lost the record."""
        self._excuses += 1
        self.any_lost = True
        self._before = None
        self._answered_by.clear()
        self._stored.clear()
        self._replays.clear()
        for grant in self._grants.values():
            grant.lost = grant.ever_lost = True

    def over(self, owner: bytes) -> None:
        """A view failed, or a claim was released."""
        if owner in self._grants and not self._grants[owner].over:
            self._grants[owner].over = True
            self._excuses += 1

    def granted(self, record: RunningRecord) -> None:
        """The store granted a claim."""
        grant = self._grants.get(record.owner)
        if self.late:
            # No request waits for it, so nobody may know of this claim.
            self.orphaned = True
        if grant is None or grant.over or not self._stands(record.owner):
            over = grant is not None and grant.over
            assert not over or self.late, "a claim that was given back was made again"
            self._check_grant(record)
            grant = self._grants[record.owner] = Grant(record, self._era)
        self._confirm(grant)

    def _check_grant(self, record: RunningRecord) -> None:
        before = self._before
        if isinstance(before, CompletedRecord) and corrects(before, record):
            assert self._asking not in self._waited, "a correction by who waited for the answer"
            self._excuses += 1
            self._begin_era()
        if isinstance(before, ReleasedRecord) and before.fingerprint != record.fingerprint:
            self._begin_era()
        assert not self._answered_by, "a run after a response was stored or offered"
        if isinstance(before, RunningRecord):
            assert self._simulation.lapsed, "a run beside one whose lease has not passed"
            assert before.fingerprint == record.fingerprint, "a take-over by another payload"
        for other in self._grants.values():
            if other.record.owner == record.owner:
                continue  # It lost its claim before its view began, and claims again.
            assert other.stored or other.over or other.lapsed or other.lost, "a run beside another"
            if not (other.over or other.ever_lost):
                assert record.attempt > other.record.attempt, "a number that another run has"

    @property
    def _asking(self) -> object:
        return getcurrent()

    def waits(self) -> None:
        """A request has found its own payload in progress, and waits for the answer."""
        self._waited.add(self._asking)

    def _stands(self, owner: bytes) -> bool:
        before = self._before
        return isinstance(before, RunningRecord) and before.owner == owner

    def _begin_era(self) -> None:
        self._era += 1
        self._answered_by.clear()
        self._stored.clear()

    def may_run(self, attempt: int) -> None:
        """The store lets a view run as this attempt."""
        self._runs.add(attempt)

    def asked(self, number: int, claim: Claim) -> None:
        """A request decides what follows the death of an owner."""
        self._asked.add(number)
        if not self.any_lost:
            last = max(attempt for attempt in self._runs if attempt < claim.attempt)
            assert claim.record.died == last, "asked about another run than the one that died"

    def renewed(self, owner: bytes) -> None:
        """The store renewed a claim."""
        self._confirm(self._grants[owner])

    def grant_of(self, claim: Claim) -> Grant:
        """Return the store's answer that a claim has the key."""
        return self._grants[claim.record.owner]

    def _confirm(self, grant: Grant) -> None:
        grant.lapsed = grant.lost = False
        grant.confirmed_move = self._moves
        grant.confirmed_at = self._simulation.time.now

    def _was_confirmed_long_ago(self, grant: Grant) -> bool:
        return self._simulation.time.now - grant.confirmed_at >= LEASE

    def completed(self, owner: bytes, completion: Completion) -> None:
        """The store took or refused a response."""
        grant = self._grants.get(owner)
        if grant is None:
            assert self._simulation.case.transaction, "nobody may have answered"
            return  # A run that the store does not know of, while it failed.
        if completion is not Completion.REFUSED:
            assert grant.era == self._era or grant.ever_lost, "an answer of another era"
            self._answered_by.add(owner)
        if completion is Completion.STORED:
            grant.stored = True
            self._stored.add(owner)
            assert len(self._stored) == 1, "two owners were assured that their response is stored"

    def changed(self, before: Record | None, after: Record | None) -> None:
        """A command was carried out."""
        if isinstance(before, CompletedRecord) and after != before:
            assert isinstance(after, RunningRecord), "a stored response was changed"
            assert corrects(before, after), "a stored response was taken away"
        if isinstance(after, RunningRecord) and after != before:
            grant = self._grants[after.owner]
            assert not grant.over, "a claim that was given back lives again"
        if after is not None:
            left = time_left(self._simulation.store, KEY)
            assert 0 < left <= LIFETIME, "a record without its end"
        self._before = after

    def runs(self, number: int, request: Request, claim: Claim) -> None:
        """A view begins."""
        if not claim.is_in_store:
            self._excuses += 1
            return
        grant = self._grants[claim.record.owner]
        if not self._simulation.case.transaction:
            # Else the lease may pass while the answer is looked up.
            assert grant.confirmed_move == self._moves, (
                "a view began on a word older than its lease"
            )
            assert not grant.lapsed
        if request.decides and claim.attempt > 1 and number not in self._asked:
            released = {g.record.attempt for g in self._grants.values() if g.over}
            assert released & self._runs, "a view ran and nobody was asked"
        self._claims.append((request.process, claim))
        assert len(self._claims) <= 1 + self._excuses, "more runs than there were reasons"

    def failed(self, number: int, error: Exception) -> None:
        """A request was answered 503."""
        # A step that begins renews its lease once; that may take as long as a lease too.
        is_slow = self._simulation.case.has_steps and self._moves > 1
        assert self.faulty or is_slow, f"request {number} got a fault: {error}"

    def answered(self, number: int, request: Request, outcome: Outcome) -> None:
        """A request has its outcome."""
        if isinstance(outcome, Replay):
            completed = outcome.completed
            assert completed.fingerprint == request.claim_request.fingerprint, (
                "another payload's response"
            )
            assert completed.body is not None
            assert completed.body.startswith(request.payload.encode()), "another's response"
            replays = self._replays.setdefault(self._grants[completed.owner].era, set())
            replays.add(completed.owner)
            assert len(replays) == 1, "two answers of one key"
        elif isinstance(outcome, OutcomeUnknown):
            is_open = self._simulation.step_checker.any_open
            assert not request.takeover or request.decides or is_open, "a rerun was refused"
            assert self._excuses, "an outcome is unknown though nobody died"
        elif isinstance(outcome, FingerprintMismatch):
            payloads = {r.payload for r in self._simulation.case.requests}
            assert payloads != {request.payload}, "a request does not match itself"
        elif isinstance(outcome, StillRunning):
            assert number, "the key is stuck"
            # One that has lost the key while it decided does not wait for the other's decision.
            has_waited = self._simulation.time.now - 1000 >= request.timeout
            assert has_waited or number in self._asked, "a waiter gave up early"

    # What must hold.

    def all_sleep(self) -> None:
        """All remaining requests wait, and none of them because its command failed."""
        record = self._simulation.record()
        assert self.any_lost or isinstance(record, RunningRecord), "a missed wake-up"
        assert self.any_lost or self.crashed or self.orphaned, "all wait for nobody"

    def finish(self) -> None:
        """Check what must hold when all actors have ended."""
        record = self._simulation.record()
        for process, claim in self._claims:
            if process not in self._simulation.engines:
                continue  # It crashed.
            grant = self._grants[claim.record.owner]
            if not claim.held:
                # After a lease nobody can know that a response was stored whose reply was lost, and
                # that a corrected request replaced it.
                excused = (
                    grant.ever_lapsed or grant.ever_lost or self._was_confirmed_long_ago(grant)
                )
                assert excused, "a lease was called lost that was not"
            elif claim.settled and claim.completing and not self.any_lost:
                assert grant.stored, "an owner believes that it is stored"
        if self._stored:
            assert isinstance(record, CompletedRecord), "a stored response is gone"
            assert record.owner in self._stored, "another's response stands"
        if isinstance(record, RunningRecord):
            is_looked_after = self.crashed or self.orphaned or record.died
            assert is_looked_after, "a claim that nobody looks after"
