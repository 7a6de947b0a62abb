"""What the contract's tests put into a store, and how they let its time pass."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from flask_idempotent.records import (
    FINGERPRINT_SIZE,
    OWNER_SIZE,
    CompletedRecord,
    ReleasedRecord,
    RunningRecord,
)
from flask_idempotent.stores.base import (
    Busy,
    Claimed,
    ClaimResult,
    Completion,
    ContendResult,
    Renewal,
    Step,
    StepResult,
    Store,
)
from flask_idempotent.stores.inspectable import InspectableStore

#: The storage key of most tests.
KEY = "IDEMPOTENT_{contract}"
#: An hour in milliseconds: how long a lease lasts here, and its record after it.
HOUR = 3_600_000
#: How long to wait for another thread or for a record to expire, in seconds.
PATIENCE = 10


def owner(name: str) -> bytes:
    return name.encode().ljust(OWNER_SIZE, b".")


def running(name: str = "ada", payload: str = "one") -> RunningRecord:
    """The record of a request by this owner, with this payload."""
    return RunningRecord(
        owner=owner(name),
        fingerprint=payload.encode().ljust(FINGERPRINT_SIZE, b"-"),
        attempt=1,
        grace_ms=HOUR,
        host="here",
        pid=7,
        started=1.5,
        method="POST",
        endpoint="orders",
    )


def response(
    name: str = "ada", payload: str = "one", body: bytes | None = b"hello", attempt: int = 1
) -> CompletedRecord:
    """The response to that request."""
    record = running(name, payload)
    return CompletedRecord(
        owner=record.owner,
        fingerprint=record.fingerprint,
        attempt=attempt,
        status=201,
        headers=(("Link", "a"), ("Link", "b")),
        body=body,
        time=2.5,
        method="POST",
        endpoint="orders",
    )


def fingerprint(payload: str = "one") -> bytes:
    return running(payload=payload).fingerprint


def renewal(record: RunningRecord, storage_key: str = KEY, *, has_steps: bool = False) -> Renewal:
    return Renewal(storage_key, record, 2 * HOUR, has_steps)


def claim(store: Store, record: RunningRecord, *, storage_key: str = KEY) -> ClaimResult:
    """Claim with a lease of an hour."""
    return store.claim(storage_key, record, ttl_ms=2 * HOUR)


def contend(
    store: Store,
    record: RunningRecord,
    *,
    takeover: bool = True,
    replaces: bytes | None = None,
    decides: bool = False,
) -> ContendResult:
    """Contend for a lease of an hour."""
    return store.contend(
        KEY, record, ttl_ms=2 * HOUR, takeover=takeover, replaces=replaces, decides=decides
    )


def complete(store: Store, record: CompletedRecord) -> Completion:
    return store.complete(KEY, record, ttl_ms=HOUR)


def release(store: Store, name: str, **options: Any) -> bool:
    return store.release(KEY, owner(name), response_ttl_ms=HOUR, tombstone_ttl_ms=HOUR, **options)


def begin(store: Store, name: str, step: str, **options: Any) -> StepResult | Step:
    """Let this owner's run begin a step."""
    return _write_step(store, Step(step, owner(name), 4.5), **options)


def end(store: Store, name: str, step: str, **options: Any) -> StepResult | Step:
    """Let this owner's run end a step."""
    return _write_step(store, Step(step, owner(name), 3.5, b"result"), **options)


def _write_step(
    store: Store,
    step: Step,
    *,
    record: RunningRecord | None = None,
    payload: str = "one",
    attempt: int = 1,
    ttl_ms: int | None = 2 * HOUR,
) -> StepResult | Step:
    if record is None:
        record = running(payload=payload)._replace(owner=step.owner, attempt=attempt)
    return store.write_step(KEY, record, step, ttl_ms=ttl_ms)


def steps_of(store: Store, payload: str = "one") -> dict[str, str]:
    """Return the names and states of the key's steps, as a run with this payload reads them."""
    return {step.name: step.state for step in store.read_steps(KEY, fingerprint(payload))}


def resolve(
    store: InspectableStore, name: str, *, ttl_ms: int = HOUR, even_running: bool = False
) -> bool:
    """Answer, as an operator, for this owner."""
    return store.resolve(
        KEY, owner(name), response("operator"), ttl_ms=ttl_ms, even_running=even_running
    )


def lapse(store: Store) -> None:
    """End the lease of the key: begin one of a millisecond, and let it pass."""
    record = store.read(KEY)
    assert isinstance(record, RunningRecord)
    renewal = Renewal(KEY, record, record.grace_ms + 1)
    assert store.renew([renewal], restore_within_ms=0) == [True]
    until(lambda: lease_left_ms(store) <= 0)


def lease_left_ms(store: Store) -> int:
    """Return how long the lease of the key still lasts."""
    other = contend(store, running("nobody"), takeover=False)
    assert isinstance(other, Busy)
    return other.lease_left_ms


def until(condition: Callable[[], object]) -> None:
    """Return as soon as something is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.001)


@contextmanager
def switching_at_each_line(store: Store) -> Iterator[None]:
    """Let other threads run at each line of the modules that the store's classes are in.

    Without it, a method of a few lines runs to its end before the interpreter switches threads:
    a store in a dict that has no lock would pass.
    """
    modules = {base.__module__ for base in type(store).__mro__}

    def switch_threads(frame: FrameType, _event: str, _argument: Any) -> Any:
        if frame.f_globals.get("__name__") not in modules:
            return None
        time.sleep(0)
        return switch_threads

    before = sys.gettrace()
    sys.settrace(switch_threads)
    try:
        yield
    finally:
        sys.settrace(before)


def take_over(store: Store) -> None:
    """Let ada claim the key, her lease lapse, and bob take the key over as attempt 2."""
    claim(store, running("ada"))
    take_over_from_ada(store)


def leave_tombstone(store: Store) -> ReleasedRecord:
    """Let bob, who has taken ada's key over, give up; return the record that is left."""
    take_over(store)
    assert release(store, "bob") is True
    return running("bob")._replace(attempt=2).tombstone()


def take_over_from_ada(store: Store) -> None:
    """Let ada's lease lapse, and bob take her key over as attempt 2."""
    lapse(store)
    assert contend(store, running("bob")) == Claimed(2, 1, dead=running("ada"))


def complete_with_steps(store: Store, record: CompletedRecord) -> Completion:
    return store.complete(KEY, record, ttl_ms=HOUR, has_steps=True)
