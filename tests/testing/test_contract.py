"""The contract that authors of stores get: it passes a sound store and finds broken ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from flask_idempotent.records import CompletedRecord, RunningRecord
from flask_idempotent.stores.base import Claimed, ClaimResult, Completion, Store
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.testing import StoreContract
from flask_idempotent.testing.contract import support
from flask_idempotent.testing.contract.support import HOUR

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "stores"
with patch.object(sys, "path", [str(EXAMPLE), *sys.path]):
    SQLiteStore: type[Store] = import_module("sqlite_store").SQLiteStore


class TestExample(StoreContract):
    """The store of the page "Writing a store"."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = SQLiteStore(tmp_path / "records")  # type: ignore[call-arg]
        yield store
        store.close()


class ClaimsTwice(MemoryStore):
    """Gives a key to every request."""

    def claim(self, storage_key: str, record: RunningRecord, *, ttl_ms: int) -> ClaimResult:
        super().claim(storage_key, record, ttl_ms=ttl_ms)
        return Claimed(1)


class Overwrites(MemoryStore):
    """Stores a late owner's response in place of another's."""

    def complete(self, storage_key: str, record: CompletedRecord, **options: Any) -> Completion:
        self.delete([storage_key])
        return super().complete(storage_key, record, **options)


class ForgetsTombstones(MemoryStore):
    """Frees a key that an earlier owner may still complete."""

    def release(self, storage_key: str, owner: bytes, **options: Any) -> bool:
        released = super().release(storage_key, owner, **options)
        self.delete([storage_key])
        return released


class HasNoLock(MemoryStore):
    """Reads and writes in steps that other threads come between."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = nullcontext()  # type: ignore[assignment]


class KeepsAnHour(MemoryStore):
    """Gives every record an hour, whatever it is asked for."""

    def release(self, storage_key: str, owner: bytes, **options: Any) -> bool:
        options.update(response_ttl_ms=HOUR, tombstone_ttl_ms=HOUR)
        return super().release(storage_key, owner, **options)

    def complete(self, storage_key: str, record: CompletedRecord, **options: Any) -> Completion:
        return super().complete(storage_key, record, **options | {"ttl_ms": HOUR})


class TestBrokenStores:
    @pytest.mark.parametrize(
        ("broken", "test"),
        [
            (ClaimsTwice, StoreContract.test_claim_of_anothers_key),
            (ClaimsTwice, StoreContract.test_one_of_many_claims_wins),
            (Overwrites, StoreContract.test_completion_by_a_late_owner),
            (Overwrites, StoreContract.test_completion_after_anothers),
            (ForgetsTombstones, StoreContract.test_tombstone_keeps_the_number),
            (ForgetsTombstones, StoreContract.test_release_stores_an_offer),
            (HasNoLock, StoreContract.test_one_of_many_claims_wins),
            (HasNoLock, StoreContract.test_one_of_many_that_contend_wins),
            (HasNoLock, StoreContract.test_one_of_many_that_take_over_wins),
            (KeepsAnHour, StoreContract.test_response_expires),
            (KeepsAnHour, StoreContract.test_offer_that_a_release_stores_expires),
            (KeepsAnHour, StoreContract.test_tombstone_expires),
        ],
    )
    def test_is_found(
        self,
        broken: type[MemoryStore],
        test: Callable[[StoreContract, Store], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A store that breaks the contract fails the test of what it breaks."""
        monkeypatch.setattr(support, "PATIENCE", 0.1)
        with pytest.raises(AssertionError):
            test(StoreContract(), broken())
