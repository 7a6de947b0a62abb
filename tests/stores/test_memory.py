"""The store in memory: its clock, its sweeping, and forks."""

from __future__ import annotations

import os
import threading

import pytest

from flask_idempotent.records import CompletedRecord, RunningRecord
from flask_idempotent.stores.base import Busy, Claimed
from flask_idempotent.stores.memory import MemoryStore
from tests.stores.harness import answer, running


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


class TestClock:
    def test_lease_and_expiry_follow_it(self) -> None:
        """Leases and records end when the given clock says so, to the millisecond."""
        clock = Clock()
        store = MemoryStore(clock)
        store.claim("k", running("ada", grace_ms=4000), ttl_ms=5000)
        clock.now += 0.999
        reply = store.contend("k", running("bob", grace_ms=4000), ttl_ms=5000, takeover=True)
        assert reply == Busy(running().fingerprint, 1, 1.5)
        clock.now += 0.001
        reply = store.contend("k", running("bob", grace_ms=4000), ttl_ms=5000, takeover=True)
        assert isinstance(reply, Claimed)
        assert reply.attempt == 2
        store.complete("k", answer("bob"), ttl_ms=2000)
        clock.now += 1.999
        assert isinstance(store.read("k"), CompletedRecord)
        clock.now += 0.001
        assert store.read("k") is None


class TestMemory:
    def test_expired_records_are_swept(self) -> None:
        """Records that expired are deleted even if no request asks for them again."""
        clock = Clock()
        store = MemoryStore(clock)
        for number in range(10_000):
            clock.now += 1
            store.claim(f"k{number}", running(), ttl_ms=60_000)
        assert len(store._entries) < 2000

    def test_representation(self) -> None:
        """The store says how many records it has."""
        store = MemoryStore()
        store.claim("k", running(), ttl_ms=1000)
        assert repr(store) == "<MemoryStore of 1 records>"

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_child_is_not_locked_out(self) -> None:
        """A lock that was held during a fork does not block the child."""
        store = MemoryStore()
        with store._lock:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    worker = threading.Thread(target=store.read, args=("k",), daemon=True)
                    worker.start()
                    worker.join(5)
                    code = int(worker.is_alive())
                finally:
                    os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0

    def test_closing_loses_nothing(self) -> None:
        """The records stay after the store is closed, for others that use it."""
        store = MemoryStore()
        store.claim("k", running(), ttl_ms=1000)
        store.close()
        assert isinstance(store.read("k"), RunningRecord)
