"""The stores against a simple model: they agree in whatever order steps are taken."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

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


KEYS = st.sampled_from(["IDEMPOTENT_{k1}", "IDEMPOTENT_{k2}"])
OWNERS = st.sampled_from(["ada", "bob", "cyd"])
PAYLOADS = st.sampled_from(["one", "one", "two"])
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
        elif isinstance(entry.record, ReleasedRecord):
            self.follows(key, record, result)
        elif entry.record.owner == record.owner:
            assert result == Claimed(entry.record.attempt, entry.record.first_attempt)
            entry.lapsed = False
        elif not entry.lapsed or not takeover or entry.record.fingerprint != record.fingerprint:
            assert isinstance(result, Busy)
            assert result.fingerprint == entry.record.fingerprint
            assert (result.lease_left_ms <= 0) == entry.lapsed
        elif entry.offer is not None:
            assert result == entry.offer
            self.model[key] = Entry(entry.offer)
        else:
            self.follows(key, record, result, dead=entry.record)

    def follows(
        self,
        key: str,
        record: RunningRecord,
        result: ContendResult,
        dead: RunningRecord | None = None,
    ) -> None:
        """The key belongs to the next attempt."""
        old = self.model[key].record
        attempt = first = old.attempt + 1
        if not isinstance(old, CompletedRecord) and old.fingerprint == record.fingerprint:
            first = old.first_attempt
        assert result == Claimed(attempt, first, dead)
        self.model[key] = Entry(record._replace(attempt=attempt, first_attempt=first))

    @rule(key=KEYS, name=OWNERS, payload=PAYLOADS, body=BODIES, attempt=st.integers(1, 3))
    def complete(self, key: str, name: str, payload: str, body: bytes | None, attempt: int) -> None:
        response = answer(name, payload, body)._replace(attempt=attempt)
        completion = self.store.complete(key, response, ttl_ms=HOUR)
        entry = self.model.get(key)
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

    @rule(key=KEYS, name=OWNERS)
    def release(self, key: str, name: str) -> None:
        gone = self.store.release(key, running(name).owner, **ENDS)
        entry = self.model.get(key)
        ours = entry is not None and entry.record.owner == running(name).owner
        if entry is None or not ours or not isinstance(entry.record, RunningRecord):
            assert not gone
            return
        assert gone
        del self.model[key]
        if entry.offer is not None:
            self.model[key] = Entry(entry.offer)
        elif entry.record.attempt > 1:
            self.model[key] = Entry(entry.record.tombstone())

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
