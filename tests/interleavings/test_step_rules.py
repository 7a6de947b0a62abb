"""The rules of steps can be broken: the search finds a store or an engine with a fault."""

from __future__ import annotations

from typing import Any

import pytest

from flask_idempotent.engine.steps import Steps
from flask_idempotent.records import CompletedRecord, RunningRecord
from flask_idempotent.stores.base import Claimed, ContendResult, Step, StepResult
from flask_idempotent.stores.expiring import NO_STEPS, Entry
from flask_idempotent.stores.memory import MemoryStore
from tests.interleavings.faults import Fault, assert_found
from tests.interleavings.step_cases import STEP_CASES


class Forgetful(MemoryStore):
    """Keeps no steps for the next run."""

    def contend(self, storage_key: str, record: RunningRecord, **options: Any) -> ContendResult:
        result = super().contend(storage_key, record, **options)
        if isinstance(result, Claimed):
            self._entries[storage_key].steps = NO_STEPS
        return result


class Credulous(MemoryStore):
    """Writes the step of a late owner, although it says that it does not."""

    def write_step(
        self, storage_key: str, record: RunningRecord, step: Step, *, ttl_ms: int | None
    ) -> StepResult | Step:
        result = super().write_step(storage_key, record, step, ttl_ms=ttl_ms)
        entry = self._live_entry(storage_key)
        if entry is not None and isinstance(entry.record, RunningRecord):
            self._write_step(entry, step)
        return result


class Unmarking(MemoryStore):
    """Does not write that a step begins."""

    def _write_step(self, entry: Entry, step: Step) -> None:
        if step.value is not None:
            super()._write_step(entry, step)


class Reckless(MemoryStore):
    """Lets a view run while a step is open."""

    def contend(self, storage_key: str, record: RunningRecord, **options: Any) -> ContendResult:
        entry = self._live_entry(storage_key)
        if entry is not None and not options["decides"]:
            entry.drop_open_steps()
        return super().contend(storage_key, record, **options)


class Absolving(MemoryStore):
    """Forgets open steps when a run is given up."""

    def release(self, storage_key: str, owner: bytes, **options: Any) -> bool:
        entry = self._live_entry(storage_key)
        if entry is not None:
            entry.drop_open_steps()
        return super().release(storage_key, owner, **options)


class Hoarding(MemoryStore):
    """Keeps steps beside a stored response."""

    def _store_response(self, storage_key: str, record: CompletedRecord, ttl_ms: int) -> None:
        entry = self._live_entry(storage_key)
        super()._store_response(storage_key, record, ttl_ms)
        if entry is not None:
            self._entries[storage_key].steps = entry.steps


class Sharing(MemoryStore):
    """Gives a request the steps of one with another payload."""

    def _follow(
        self, storage_key: str, record: RunningRecord, entry: Entry, ttl_ms: int
    ) -> Claimed:
        steps = entry.steps
        claimed = super()._follow(storage_key, record, entry, ttl_ms)
        self._entries[storage_key].steps = steps
        return claimed


@pytest.mark.parametrize(
    ("store", "case", "rule"),
    [
        (Forgetful, "steps, owner fails", "whose result is kept was called again"),
        (Credulous, "steps, late owner", "a late owner has recorded a step"),
        (Unmarking, "once, fails in it", "the outcome of a step is unknown"),
        (Reckless, "once, one crash", "the outcome of a step is unknown"),
        (Absolving, "once, fails in it", "the outcome of a step is unknown"),
        (Hoarding, "steps", "a stored response has left steps"),
        (Sharing, "steps, two payloads", "a late owner has recorded a step"),
    ],
)
def test_broken_store_is_found(store: type[MemoryStore], case: str, rule: str) -> None:
    """A store that breaks the contract of steps breaks a rule in some schedule."""
    assert_found(rule, STEP_CASES[case], store=store)


def _do_nothing(*_: object) -> None:
    pass


def _read_nothing(_: Steps) -> dict[str, Step]:
    return {}


def _believe(steps: Steps, step: Step) -> None:
    """Write a step, and take whatever the store says for success."""
    steps._send(step)


def _never_started(steps: Steps, name: str, value: object) -> None:
    """End a step, and take it for one whose function never ran."""
    steps.unstarted = name


@pytest.mark.parametrize(
    ("fault", "case", "rule"),
    [
        (Fault(Steps, "_check_lease", _do_nothing), "once, late owner", "older than its lease"),
        (Fault(Steps, "_read_earlier", _read_nothing), "steps, owner fails", "was called again"),
        (Fault(Steps, "_write", _believe), "steps, late owner", "whose step was refused"),
        (
            Fault(Steps, "end", _never_started),
            "once, owner fails",
            "the outcome of a step is unknown",
        ),
    ],
)
def test_broken_engine_is_found(fault: Fault, case: str, rule: str) -> None:
    """An engine that breaks the protocol of steps breaks a rule in some schedule."""
    assert_found(rule, STEP_CASES[case], fault=fault)
