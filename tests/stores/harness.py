"""What the tests of stores share: records to store, and ways to end leases and records."""

from __future__ import annotations

from flask_idempotent.records import CompletedRecord, RunningRecord
from flask_idempotent.stores.base import Renewal, Store
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.stores.redis.commands import steps_key
from flask_idempotent.stores.redis.store import RedisStore

HOUR = 3_600_000
#: The times to live that a release takes.
ENDS = {"response_ttl_ms": HOUR, "tombstone_ttl_ms": HOUR}
#: A time that no store's clock reaches.
NEVER = 1 << 52


def owner(name: str) -> bytes:
    return name.encode().ljust(16, b".")


def running(name: str = "ada", payload: str = "one", grace_ms: int = HOUR) -> RunningRecord:
    fingerprint = payload.encode().ljust(16, b"-")
    return RunningRecord(
        owner(name), fingerprint, 1, grace_ms, "here", 7, 1.5, method="POST", endpoint="orders"
    )


def answer(
    name: str = "ada", payload: str = "one", body: bytes | None = b"hello"
) -> CompletedRecord:
    record = running(name, payload)
    return CompletedRecord(
        record.owner, record.fingerprint, 1, 201, (("Link", "a"), ("Link", "b")), body, 2.5,
        method="POST", endpoint="orders",
    )  # fmt: skip


def renewal(key: str, record: RunningRecord) -> Renewal:
    return Renewal(key, record, 2 * HOUR)


def lapse(store: Store, key: str) -> None:
    """End the lease of a key now."""
    if isinstance(store, MemoryStore):
        store._entries[key].expires_at_ms = store.now() + _grace(store, key)
        return
    assert isinstance(store, RedisStore)
    store._client.execute("PEXPIRE", key, _grace(store, key))


def _grace(store: Store, key: str) -> int:
    record = store.read(key)
    assert isinstance(record, RunningRecord)
    assert record.grace_ms, "the record ends with its lease"
    return record.grace_ms


def expire(store: Store, key: str) -> None:
    """End the time to live of a record and its steps now."""
    if isinstance(store, MemoryStore):
        store._entries[key].expires_at_ms = 0
        return
    assert isinstance(store, RedisStore)
    for name in (key, steps_key(key)):
        store._client.execute("PEXPIRE", name, 0)


def time_left(store: Store, key: str) -> int:
    """Return the milliseconds that a record has left to live."""
    if isinstance(store, MemoryStore):
        return store._entries[key].expires_at_ms - store.now()
    assert isinstance(store, RedisStore)
    return int(store._client.execute("PTTL", key))
