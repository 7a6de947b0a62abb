"""The rules of steps: what holds at each command of runs that keep the results of their steps.

The function of a step whose result is kept is not called again. A run that has lost the key records
nothing. A step that runs once is called once, or its outcome is unknown, and then nobody runs a
view until somebody decides so. All this ends with a response that is stored, or with a request that
has another payload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_idempotent.records import CompletedRecord, Record, RunningRecord
from flask_idempotent.stores.base import Step
from tests.interleavings.case import KEY, is_once

if TYPE_CHECKING:
    from flask_idempotent.engine.claims import Claim
    from tests.interleavings.simulation import Simulation


class StepChecker:
    """Follows the steps of one simulation and fails when a rule is broken."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        #: The steps in the store after the last command.
        self._kept: dict[str, Step] = {}
        #: The fingerprint of the request that these are of.
        self._fingerprint = b""
        #: The names of the steps whose results were kept.
        self._recorded: set[str] = set()
        #: The names of the steps that run once and were called, and whose outcome is unknown.
        self._unknown: set[str] = set()
        #: The owners whose steps the store has refused.
        self._lost_by: set[bytes] = set()
        #: Whether the store ever had a step that began and had not ended.
        self.any_open = False

    def changed(self, record: Record | None) -> None:
        """A command was carried out."""
        if record is None:
            return
        steps = self._simulation.store.read_steps(KEY, record.fingerprint)
        if isinstance(record, CompletedRecord):
            assert not steps, "a stored response has left steps"
        if isinstance(record, CompletedRecord) or record.fingerprint != self._fingerprint:
            self._end()
        self._fingerprint = record.fingerprint
        for step in steps:
            if step != self._kept.get(step.name):
                is_owners = isinstance(record, RunningRecord) and record.owner == step.owner
                assert is_owners, "a late owner has recorded a step"
        self._kept = {step.name: step for step in steps}
        ended = {step.name for step in steps if step.value is not None}
        self.any_open = self.any_open or len(ended) < len(steps)
        self._recorded |= ended
        self._unknown -= ended

    def _end(self) -> None:
        self._kept.clear()
        self._recorded.clear()
        self._unknown.clear()

    def lost(self) -> None:
        """The store lost the record and its steps."""
        self._end()

    def refused(self, owner: bytes) -> None:
        """The store has refused a step, because its run has lost the key."""
        self._lost_by.add(owner)

    def granted(self, before: Record | None, record: RunningRecord, *, decided: bool) -> None:
        """The store lets a view run.

        :param before: what the key had.
        :param decided: whether its request has decided that it runs.
        """
        if decided:
            self._unknown.clear()
        if isinstance(before, RunningRecord) and before.owner == record.owner:
            return  # Its first claim was sent twice.
        assert not self._unknown, "a view runs though the outcome of a step is unknown"

    def called(self, name: str, claim: Claim) -> None:
        """The function of a step is called."""
        grant = self._simulation.checker.grant_of(claim)
        if grant.ever_lost:
            return  # The store could not keep others from running beside it.
        assert not grant.lapsed, "a step began on a word older than its lease"
        assert name not in self._recorded, "a step whose result is kept was called again"
        if is_once(name):
            assert name not in self._unknown, "a step that runs once was called again"
            self._unknown.add(name)

    def answers(self, claim: Claim) -> None:
        """A run answers."""
        is_lost = claim.record.owner in self._lost_by
        assert not is_lost, "a run answers whose step was refused"
