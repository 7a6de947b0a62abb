"""The rules can be broken: the search finds a store or an engine with a fault."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest

from flask_idempotent.engine.claimant import Claimant
from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.renewal import Renewals
from flask_idempotent.engine.worker import Worker
from flask_idempotent.records import CompletedRecord, Record, ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import Claimed, Completion, ContendResult, Renewal
from flask_idempotent.stores.memory import MemoryStore
from tests.interleavings.case import Case, Request
from tests.interleavings.cases import CASES, INVALID_B, INVALID_TWO_C, A
from tests.interleavings.explore import BrokenRule, follow
from tests.interleavings.faults import Fault, assert_found
from tests.interleavings.simulation import Simulation
from tests.interleavings.stopped_time import stopped_time
from tests.stores.harness import NEVER


class Impatient(MemoryStore):
    """Takes over a claim whose lease has not passed."""

    def contend(self, storage_key: str, record: RunningRecord, **options: Any) -> ContendResult:
        entry = self._live_entry(storage_key)
        if entry is not None and isinstance(entry.record, RunningRecord):
            entry.expires_at_ms = self.now() + entry.record.grace_ms
        return super().contend(storage_key, record, **options)


class Undiscerning(MemoryStore):
    """Takes over another payload's claim."""

    def contend(self, storage_key: str, record: RunningRecord, **options: Any) -> ContendResult:
        entry = self._live_entry(storage_key)
        if entry is not None and isinstance(entry.record, RunningRecord):
            entry.record = entry.record._replace(fingerprint=record.fingerprint)
        return super().contend(storage_key, record, **options)


class Overwriting(MemoryStore):
    """Stores whatever response comes."""

    def complete(self, storage_key: str, record: CompletedRecord, **options: Any) -> Completion:
        self._store_response(storage_key, record, options["ttl_ms"])
        return Completion.STORED


class Believing(MemoryStore):
    """Says that a refused response is stored."""

    def complete(self, storage_key: str, record: CompletedRecord, **options: Any) -> Completion:
        super().complete(storage_key, record, **options)
        return Completion.STORED


class Forgetful(MemoryStore):
    """Keeps no late owner's response."""

    def complete(self, storage_key: str, record: CompletedRecord, **options: Any) -> Completion:
        completion = super().complete(storage_key, record, **options)
        self._entries[storage_key].offer = None
        return completion


class Silent(MemoryStore):
    """Wakes nobody."""

    def _notify(self, *_: object) -> None:
        pass


class Reviving(MemoryStore):
    """Puts back what is gone, however late it learns of it."""

    def renew(self, renewals: Sequence[Renewal], *, restore_within_ms: int) -> list[bool | None]:
        return super().renew(renewals, restore_within_ms=NEVER)


class Careless(MemoryStore):
    """Lets anybody release a claim."""

    def release(self, storage_key: str, owner: bytes, **options: Any) -> bool:
        entry = self._live_entry(storage_key)
        if entry is not None and isinstance(entry.record, RunningRecord):
            owner = entry.record.owner
        return super().release(storage_key, owner, **options)


class Renumbering(MemoryStore):
    """Leaves no tombstone, so that the next run is number 1 again."""

    def release(self, storage_key: str, owner: bytes, **options: Any) -> bool:
        released = super().release(storage_key, owner, **options)
        if isinstance(self.read(storage_key), ReleasedRecord):
            del self._entries[storage_key]
        return released


class Overcorrecting(MemoryStore):
    """Lets a corrected request take the place of whatever response stands."""

    def contend(self, storage_key: str, record: RunningRecord, **options: Any) -> ContendResult:
        entry = self._live_entry(storage_key)
        if options["replaces"] is not None and entry is not None:
            options["replaces"] = entry.record.owner
        return super().contend(storage_key, record, **options)


class Mixing(MemoryStore):
    """Takes a response for a key that had another payload meanwhile."""

    def _grant(self, storage_key: str, record: RunningRecord, *arguments: Any) -> Claimed:
        return super()._grant(storage_key, record._replace(first_attempt=1), *arguments)


class Eternal(MemoryStore):
    """Keeps records for ever."""

    def _put(self, storage_key: str, record: Record, ttl_ms: int, *steps: Any) -> None:
        super()._put(storage_key, record, NEVER, *steps)


class Inattentive(MemoryStore):
    """Remembers the run of whoever was asked last, and not the one that died."""

    def contend(self, storage_key: str, record: RunningRecord, **options: Any) -> ContendResult:
        result = super().contend(storage_key, record, **options)
        entry = self._entries.get(storage_key)
        if entry is not None and isinstance(entry.record, RunningRecord) and entry.record.died:
            entry.record = entry.record._replace(died=entry.record.attempt - 1)
        if isinstance(result, Claimed) and result.dead is not None:
            return result._replace(dead=result.dead._replace(died=0))
        return result


class Freeing(MemoryStore):
    """Frees the key when a request gives up that was to decide."""

    def release(self, storage_key: str, owner: bytes, **options: Any) -> bool:
        return super().release(storage_key, owner, **options | {"owner_may_run": True})


@pytest.mark.parametrize(
    ("store", "case", "rule"),
    [
        (Impatient, "two owners", "whose lease has not passed"),
        (Undiscerning, "two payloads, late owner", "a take-over by another payload"),
        (Overwriting, "late owner", "stored response was changed|believe|two owners were assured"),
        (Believing, "late owner", "two owners were assured|a stored response is gone"),
        (Forgetful, "late owner, successor fails", "after a response was stored or offered"),
        (Silent, "two owners", "a missed wake-up"),
        (Reviving, "renewal, alone, fails", "given back lives again"),
        (Careless, "late owner fails, another comes", "a run beside another"),
        (Renumbering, "late owner, successor fails, another comes", "number that another run has"),
        (Overcorrecting, "corrected twice at once", "after a response was stored or offered"),
        (Eternal, "two owners", "a record without its end"),
        (Inattentive, "asked, hold, asked again", "another run than the one that died"),
        (Freeing, "asked, hold", "nobody was asked"),
    ],
)
def test_broken_store_is_found(store: type[MemoryStore], case: str, rule: str) -> None:
    """A store that breaks its contract breaks a rule in some schedule."""
    assert_found(rule, CASES[case], store=store)


#: A late owner answers when its key has been another payload's and is its own payload's again.
BACK = """
    request 1: claim
    request 1: reply
    time: a lease passes
    request 2: claim
    request 2: listen
    request 2: contend
    request 2: complete
    request 3: claim
    request 3: contend
    request 3: complete
    request 4: claim
    request 4: contend
    request 1: complete
    request 4: complete
    """


@pytest.mark.parametrize("store", [MemoryStore, Mixing])
def test_late_owner_of_another_era(store: type[MemoryStore]) -> None:
    """No search finds a schedule of this length, so it is written here."""
    case = Case((A, INVALID_B, INVALID_TWO_C, Request("D")), lapses=1)
    expected = pytest.raises(BrokenRule, match="an answer of another era")
    with stopped_time() as time, nullcontext() if store is MemoryStore else expected:
        follow(Simulation(case, store(time.monotonic), time), BACK)


def _run_without_asking(claimant: Claimant, claim: Claim) -> bool:
    return True


def _correct_whenever(claimant: Claimant, result: Any, replaced: object) -> bytes | None:
    if (
        not isinstance(result, CompletedRecord)
        or result.fingerprint == claimant._request.fingerprint
    ):
        return None
    return result.owner if result.operation else None


def _do_nothing(*_: object) -> None:
    pass


@pytest.mark.parametrize(
    ("fault", "case", "rule"),
    [
        (
            Fault(Claimant, "_still_holds", _run_without_asking),
            "late owner",
            "older than its lease",
        ),
        (
            Fault(Claimant, "_owner_to_replace", _correct_whenever),
            "corrected and back",
            "who waited",
        ),
        (Fault(Worker, "_release_later", _do_nothing), "one fault", "all wait for nobody"),
        (Fault(Engine, "_complete_later", _do_nothing), "one fault", "settled|nobody looks after"),
        (Fault(Renewals, "remove", _do_nothing), "two owners", "renews what is settled"),
    ],
)
def test_broken_engine_is_found(fault: Fault, case: str, rule: str) -> None:
    """An engine that breaks its protocol breaks a rule in some schedule."""
    assert_found(rule, CASES[case], fault=fault)


def test_sound_engine_is_not_found() -> None:
    """The checks above fail where nothing is broken."""
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        assert_found(".", CASES["two owners"], schedules=5)
