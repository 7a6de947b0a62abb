"""The stores against a simple model: they agree in whatever order steps are taken."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from flask_idempotent.records import CompletedRecord, ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import (
    Busy,
    Claimed,
    Completion,
    ContendResult,
    Step,
    StepResult,
)
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.stores.memory import MemoryStore
from tests.stores.harness import (
    ENDS,
    HOUR,
    answer,
    expire,
    lapse,
    owner,
    renewal,
    running,
    time_left,
)


@dataclass
class Entry:
    """What the model expects of a key."""

    record: RunningRecord | CompletedRecord | ReleasedRecord
    lapsed: bool = False
    offer: CompletedRecord | None = None
    steps: dict[str, Step] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return any(step.value is None for step in self.steps.values())

    def drop_open(self, name: str | None = None) -> None:
        """Forget that steps began: the owner's one of this name, or all."""
        for step in list(self.steps.values()):
            is_meant = name is None or (name, self.record.owner) == (step.name, step.owner)
            if step.value is None and is_meant:
                del self.steps[step.name]


KEYS = st.sampled_from(["IDEMPOTENT_{k1}", "IDEMPOTENT_{k2}"])
OWNERS = st.sampled_from(["ada", "bob", "cyd"])
PAYLOADS = st.sampled_from(["one", "one", "two"])
STEPS = st.sampled_from(["reserve", "charge"])
BODIES = st.sampled_from([b"", b"hello", None, b"x" * 20_000])


class Machine(RuleBasedStateMachine):
    store: InspectableStore

    def __init__(self) -> None:
        super().__init__()
        self.store.delete(set(self.store.scan("IDEMPOTENT_")))
        self.model: dict[str, Entry] = {}

    @rule(key=KEYS, name=OWNERS, payload=PAYLOADS)
    def claim(self, key: str, name: str, payload: str) -> None:
        record = running(name, payload)
        result = self.store.claim(key, record, ttl_ms=2 * HOUR)
        entry = self.model.get(key)
        if entry is None:
            assert result == Claimed(1)
            self.model[key] = Entry(record)
        else:
            assert result == entry.record

    @rule(key=KEYS, name=OWNERS, payload=PAYLOADS, takeover=st.booleans())
    def contend(self, key: str, name: str, payload: str, takeover: bool) -> None:
        record = running(name, payload)
        result = self.store.contend(key, record, ttl_ms=2 * HOUR, takeover=takeover)
        self.judge(key, record, result, takeover)

    @rule(key=KEYS, name=OWNERS, payload=PAYLOADS, replaces=OWNERS)
    def correct(self, key: str, name: str, payload: str, replaces: str) -> None:
        record, replaced = running(name, payload), owner(replaces)
        result = self.store.contend(key, record, ttl_ms=2 * HOUR, takeover=True, replaces=replaced)
        entry = self.model.get(key)
        old = None if entry is None else entry.record
        if isinstance(old, CompletedRecord) and old.owner == replaced:
            self.follows(key, record, result)
        else:
            self.judge(key, record, result, takeover=True)

    def judge(self, key: str, record: RunningRecord, result: ContendResult, takeover: bool) -> None:
        entry = self.model.get(key)
        if entry is None:
            assert result == Claimed(1)
            self.model[key] = Entry(record)
        elif isinstance(entry.record, CompletedRecord):
            assert result == entry.record
        elif isinstance(entry.record, ReleasedRecord) and not entry.is_open:
            self.follows(key, record, result)
        elif isinstance(entry.record, RunningRecord) and entry.record.owner == record.owner:
            assert result == Claimed(entry.record.attempt, entry.record.first_attempt)
            entry.lapsed = False
        else:
            self.judge_takeover(entry, key, record, result, takeover)

    def judge_takeover(
        self, entry: Entry, key: str, record: RunningRecord, result: ContendResult, takeover: bool
    ) -> None:
        lapsed = entry.lapsed or isinstance(entry.record, ReleasedRecord)
        is_same_request = entry.record.fingerprint == record.fingerprint
        if lapsed and takeover and is_same_request and entry.offer is not None:
            assert result == entry.offer
            self.model[key] = Entry(entry.offer)
        elif lapsed and takeover and is_same_request and not entry.is_open:
            assert isinstance(entry.record, RunningRecord)
            self.follows(key, record, result, dead=entry.record)
        else:
            assert isinstance(result, Busy)
            assert result.fingerprint == entry.record.fingerprint
            assert (result.lease_left_ms <= 0) == lapsed
            assert result.held == (lapsed and entry.is_open)

    def follows(
        self,
        key: str,
        record: RunningRecord,
        result: ContendResult,
        dead: RunningRecord | None = None,
    ) -> None:
        """The key belongs to the next attempt."""
        old, steps = self.model[key].record, {}
        attempt = first = old.attempt + 1
        if not isinstance(old, CompletedRecord) and old.fingerprint == record.fingerprint:
            first, steps = old.first_attempt, self.model[key].steps
        assert result == Claimed(attempt, first, dead)
        record = record._replace(attempt=attempt, first_attempt=first)
        self.model[key] = Entry(record, steps=steps)

    @rule(key=KEYS, name=OWNERS, step_name=STEPS, ends=st.booleans())
    def write_step(self, key: str, name: str, step_name: str, ends: bool) -> None:
        entry, record = self.model.get(key), running(name)
        if entry is not None:
            record = record._replace(fingerprint=entry.record.fingerprint)
        step = Step(step_name, record.owner, len(step_name) / 2, b"" if ends else None)
        result = self.store.write_step(key, record, step, ttl_ms=2 * HOUR)
        if entry is None:
            assert result is StepResult.GONE
        elif not isinstance(entry.record, RunningRecord) or entry.record.owner != record.owner:
            assert result is StepResult.LOST
        else:
            earlier = entry.steps.get(step_name)
            if not ends and earlier is not None and earlier.owner != record.owner:
                assert result == earlier
                return
            assert result is StepResult.WRITTEN
            entry.lapsed = False
            if ends or earlier is None or earlier.value is None:
                entry.steps[step_name] = step

    @rule(key=KEYS, name=OWNERS, payload=PAYLOADS, body=BODIES, attempt=st.integers(1, 3))
    def complete(self, key: str, name: str, payload: str, body: bytes | None, attempt: int) -> None:
        response = answer(name, payload, body)._replace(attempt=attempt)
        entry = self.model.get(key)
        has_steps = entry is not None and entry.record.owner == response.owner
        completion = self.store.complete(key, response, ttl_ms=HOUR, has_steps=has_steps)
        if entry is None:
            assert completion is Completion.STORED
            self.model[key] = Entry(response)
        elif isinstance(entry.record, CompletedRecord):
            ours = entry.record.owner == response.owner
            assert completion is (Completion.STORED if ours else Completion.REFUSED)
        elif entry.record.owner == response.owner:
            assert completion is Completion.STORED
            self.model[key] = Entry(response)
        elif (
            entry.record.fingerprint != response.fingerprint or attempt < entry.record.first_attempt
        ):
            assert completion is Completion.REFUSED
        elif isinstance(entry.record, ReleasedRecord):
            assert completion is Completion.STORED
            self.model[key] = Entry(response)
        else:
            assert completion is Completion.OFFERED
            entry.offer = entry.offer or response

    @rule(key=KEYS, name=OWNERS, by_operator=st.booleans(), unstarted=STEPS | st.just(""))
    def release(self, key: str, name: str, by_operator: bool, unstarted: str) -> None:
        gone = self.store.release(
            key, owner(name), **ENDS,
            owner_may_run=by_operator, has_steps=True, unstarted=unstarted,
        )  # fmt: skip
        entry = self.model.get(key)
        if entry is None or entry.record.owner != owner(name):
            assert not gone
        elif isinstance(entry.record, RunningRecord):
            assert gone
            self.released(key, entry, entry.record, by_operator, unstarted)
        else:
            is_freed = isinstance(entry.record, ReleasedRecord) and by_operator and entry.is_open
            assert gone is is_freed
            entry.drop_open(None if is_freed else "")

    def released(
        self, key: str, entry: Entry, record: RunningRecord, by_operator: bool, unstarted: str
    ) -> None:
        del self.model[key]
        entry.drop_open(None if by_operator else unstarted)
        if entry.offer is not None:
            self.model[key] = Entry(entry.offer)
        elif record.attempt > 1 or by_operator or entry.steps:
            self.model[key] = Entry(record.tombstone(), steps=entry.steps)

    @rule(key=KEYS, name=OWNERS, payload=PAYLOADS, in_time=st.booleans())
    def renew(self, key: str, name: str, payload: str, in_time: bool) -> None:
        record = running(name, payload)
        within_ms = HOUR if in_time else -1
        (ours,) = self.store.renew([renewal(key, record)], restore_within_ms=within_ms)
        entry = self.model.get(key)
        if entry is None:
            assert ours is (True if in_time else None)
            if in_time:
                self.model[key] = Entry(record)
        elif isinstance(entry.record, RunningRecord) and entry.record.owner == record.owner:
            assert ours is True
            entry.lapsed = False
        else:
            assert ours is False

    @rule(key=KEYS)
    def let_the_lease_pass(self, key: str) -> None:
        entry = self.model.get(key)
        if entry is not None and isinstance(entry.record, RunningRecord):
            lapse(self.store, key)
            entry.lapsed = True

    @rule(key=KEYS)
    def let_the_record_expire(self, key: str) -> None:
        if self.model.pop(key, None) is not None:
            expire(self.store, key)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        assert self.store.delete([key]) == (self.model.pop(key, None) is not None)

    @invariant()
    def both_agree(self) -> None:
        for key in ("IDEMPOTENT_{k1}", "IDEMPOTENT_{k2}"):
            entry = copy.copy(self.model.get(key))
            record = self.store.read(key)
            assert record == (None if entry is None else entry.record)
            if entry is not None:
                steps = sorted(entry.steps.values(), key=lambda step: step.time)
                assert self.store.read_steps(key, entry.record.fingerprint) == steps
                assert 0 < time_left(self.store, key) <= 2 * HOUR, "no record without an end"


@pytest.fixture
def machine(store: InspectableStore) -> Callable[[], Machine]:
    class Bound(Machine):
        pass

    Bound.store = store
    return Bound


def test_store_agrees_with_the_model(
    machine: Callable[[], Machine], store: InspectableStore
) -> None:
    """Every store does what the model does, whatever is asked of it in whatever order."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            # There are several servers, all with the same scripts, and each command takes longer.
            max_examples=40 if isinstance(store, MemoryStore) else 15,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
