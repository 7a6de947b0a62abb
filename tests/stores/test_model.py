"""The store contract against a plain model: whatever the order of steps, both agree."""

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
    InspectableStore,
)
from tests.stores.harness import (
    ENDS,
    HOUR,
    NEVER,
    answer,
    expire,
    lapse,
    owner,
    renewal,
    running,
    time_left,
)


@dataclass
class Known:
    """What the model knows of a key."""

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
        self.model: dict[str, Known] = {}

    @rule(key=KEYS, name=OWNERS, payload=PAYLOADS)
    def claim(self, key: str, name: str, payload: str) -> None:
        record = running(name, payload)
        result = self.store.claim(key, record, ttl_ms=2 * HOUR)
        known = self.model.get(key)
        if known is None:
            assert result == Claimed(1)
            self.model[key] = Known(record)
        else:
            assert result == known.record

    @rule(key=KEYS, name=OWNERS, payload=PAYLOADS, takeover=st.booleans())
    def contend(self, key: str, name: str, payload: str, takeover: bool) -> None:
        record = running(name, payload)
        result = self.store.contend(key, record, ttl_ms=2 * HOUR, takeover=takeover)
        self.judge(key, record, result, takeover)

    @rule(key=KEYS, name=OWNERS, payload=PAYLOADS, replaces=OWNERS)
    def correct(self, key: str, name: str, payload: str, replaces: str) -> None:
        record, replaced = running(name, payload), owner(replaces)
        result = self.store.contend(key, record, ttl_ms=2 * HOUR, takeover=True, replaces=replaced)
        known = self.model.get(key)
        old = None if known is None else known.record
        if isinstance(old, CompletedRecord) and old.owner == replaced:
            self.follows(key, record, result)
        else:
            self.judge(key, record, result, takeover=True)

    def judge(self, key: str, record: RunningRecord, result: ContendResult, takeover: bool) -> None:
        known = self.model.get(key)
        if known is None:
            assert result == Claimed(1)
            self.model[key] = Known(record)
        elif isinstance(known.record, CompletedRecord):
            assert result == known.record
        elif isinstance(known.record, ReleasedRecord):
            self.follows(key, record, result)
        elif known.record.owner == record.owner:
            assert result == Claimed(known.record.attempt, known.record.first_attempt)
            known.lapsed = False
        elif not known.lapsed or not takeover or known.record.fingerprint != record.fingerprint:
            assert isinstance(result, Busy)
            assert result.fingerprint == known.record.fingerprint
            assert (result.lease_left_ms <= 0) == known.lapsed
        elif known.offer is not None:
            assert result == known.offer
            self.model[key] = Known(known.offer)
        else:
            self.follows(key, record, result, dead=known.record)

    def follows(
        self,
        key: str,
        record: RunningRecord,
        result: ContendResult,
        dead: RunningRecord | None = None,
    ) -> None:
        """The key is somebody's after somebody else."""
        old = self.model[key].record
        attempt = first = old.attempt + 1
        if not isinstance(old, CompletedRecord) and old.fingerprint == record.fingerprint:
            first = old.first_attempt
        assert result == Claimed(attempt, first, dead)
        self.model[key] = Known(record._replace(attempt=attempt, first_attempt=first))

    @rule(key=KEYS, name=OWNERS, payload=PAYLOADS, body=BODIES, attempt=st.integers(1, 3))
    def complete(self, key: str, name: str, payload: str, body: bytes | None, attempt: int) -> None:
        response = answer(name, payload, body)._replace(attempt=attempt)
        completion = self.store.complete(key, response, ttl_ms=HOUR)
        known = self.model.get(key)
        if known is None:
            assert completion is Completion.STORED
            self.model[key] = Known(response)
        elif isinstance(known.record, CompletedRecord):
            ours = known.record.owner == response.owner
            assert completion is (Completion.STORED if ours else Completion.REFUSED)
        elif known.record.owner == response.owner:
            assert completion is Completion.STORED
            self.model[key] = Known(response)
        elif (
            known.record.fingerprint != response.fingerprint or attempt < known.record.first_attempt
        ):
            assert completion is Completion.REFUSED
        elif isinstance(known.record, ReleasedRecord):
            assert completion is Completion.STORED
            self.model[key] = Known(response)
        else:
            assert completion is Completion.OFFERED
            known.offer = known.offer or response

    @rule(key=KEYS, name=OWNERS)
    def release(self, key: str, name: str) -> None:
        gone = self.store.release(key, running(name).owner, **ENDS)
        known = self.model.get(key)
        ours = known is not None and known.record.owner == running(name).owner
        if known is None or not ours or not isinstance(known.record, RunningRecord):
            assert not gone
            return
        assert gone
        del self.model[key]
        if known.offer is not None:
            self.model[key] = Known(known.offer)
        elif known.record.attempt > 1:
            self.model[key] = Known(known.record.tombstone())

    @rule(key=KEYS, name=OWNERS, payload=PAYLOADS, until=st.sampled_from([0, NEVER]))
    def renew(self, key: str, name: str, payload: str, until: int) -> None:
        record = running(name, payload)
        (ours,) = self.store.renew([renewal(key, record)], until=until)
        known = self.model.get(key)
        if known is None:
            assert ours is (True if until else None)
            if until:
                self.model[key] = Known(record)
        elif isinstance(known.record, RunningRecord) and known.record.owner == record.owner:
            assert ours is True
            known.lapsed = False
        else:
            assert ours is False

    @rule(key=KEYS)
    def let_the_lease_pass(self, key: str) -> None:
        known = self.model.get(key)
        if known is not None and isinstance(known.record, RunningRecord):
            lapse(self.store, key)
            known.lapsed = True

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
            known = copy.copy(self.model.get(key))
            record = self.store.read(key)
            assert record == (None if known is None else known.record)
            if known is not None:
                assert 0 < time_left(self.store, key) <= 2 * HOUR, "no record without an end"


@pytest.fixture
def machine(store: InspectableStore) -> Callable[[], Machine]:
    class Bound(Machine):
        pass

    Bound.store = store
    return Bound


def test_store_agrees_with_the_model(machine: Callable[[], Machine]) -> None:
    """Claims, owners, time, renewals, releases, completions: every store does as the model."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
