"""The store of a test: in memory, with owners that can be made to crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask_idempotent.records import CompletedRecord
from flask_idempotent.stores.base import Completion
from flask_idempotent.stores.memory import MemoryStore


class CrashableStore(MemoryStore):
    """Keeps records in this process, and ignores owners that have crashed."""

    _crashing = False

    @contextmanager
    def crash(self) -> Iterator[None]:
        """Let owners crash: a claim stays until its lease ends."""
        self._crashing = True
        try:
            yield
        finally:
            self._crashing = False

    def complete(
        self, storage_key: str, record: CompletedRecord, *, ttl_ms: int, has_steps: bool = False
    ) -> Completion:
        if self._crashing:
            return Completion.STORED
        return super().complete(storage_key, record, ttl_ms=ttl_ms, has_steps=has_steps)

    def release(self, storage_key: str, owner: bytes, **options: Any) -> bool:
        return self._crashing or super().release(storage_key, owner, **options)
