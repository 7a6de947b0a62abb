"""What the engine tests share: orders, a store that fails when told, and an engine over it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flask_idempotent.engine.claims import Claim, ClaimRequest
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.worker import Worker
from flask_idempotent.records import CompletedRecord, RunningRecord
from flask_idempotent.settings import EngineSettings
from flask_idempotent.stores.base import ClaimResult, Completion, ContendResult, Renewal
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.stores.waiters import Bell

KEY = "IDEMPOTENT_{engine}"


def request(
    payload: str = "one",
    *,
    storage_key: str = KEY,
    key: str = "client-key",
    path: str = "/orders",
    **changes: Any,
) -> ClaimRequest:
    settings: dict[str, Any] = {
        "timeout": 5.0, "expire": 240.0, "lease": 30.0, "takeover": True,
        "correctable": frozenset({422}),
    }  # fmt: skip
    return ClaimRequest(
        storage_key=storage_key,
        key=key,
        fingerprint=payload.encode().ljust(16, b"-"),
        settings=EngineSettings(**(settings | changes)),
        method="POST",
        endpoint="orders",
        path=(path,),
    )


def finish(engine: Engine, claim: object, body: bytes | None = b"done", status: int = 200) -> None:
    assert isinstance(claim, Claim)
    engine.complete(claim, status, (("Content-Type", "text/plain"),), body)


def claimed(engine: Engine, **changes: Any) -> Claim:
    """Claim a key that is free."""
    claim = engine.claim(request(**changes))
    assert isinstance(claim, Claim)
    return claim


def without_thread(worker: Worker) -> Worker:
    """Have a worker whose rounds are the test's to run."""
    worker.wake = lambda: None  # type: ignore[method-assign]
    return worker


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


Before = Callable[[], object]


class Shaky(MemoryStore):
    """A store that does what a test says before or after a method does its work.

    ``before["claim"]`` and ``after["claim"]`` are functions called there, once each unless they
    are put in again; what they raise is what the caller sees.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        super().__init__(clock or Clock())
        self.before: dict[str, list[Before]] = {}
        self.after: dict[str, list[Before]] = {}
        self.calls: list[str] = []
        #: The owners that claimed, in their order.
        self.asked_by: list[bytes] = []
        self.listening = threading.Semaphore(0)

    def _around(self, name: str, work: Callable[[], Any]) -> Any:
        self.calls.append(name)
        for functions, moment in ((self.before, 0), (self.after, 1)):
            if moment:
                result = work()
            if functions.get(name):
                functions[name].pop(0)()
        return result

    def claim(self, storage_key: str, record: RunningRecord, *, ttl_ms: int) -> ClaimResult:
        self.asked_by.append(record.owner)
        result: ClaimResult = self._around(
            "claim", lambda: super(Shaky, self).claim(storage_key, record, ttl_ms=ttl_ms)
        )
        return result

    def contend(self, storage_key: str, record: RunningRecord, **options: Any) -> ContendResult:
        self.asked_by.append(record.owner)
        # A look at the key, like a claim.
        result: ContendResult = self._around(
            "claim", lambda: super(Shaky, self).contend(storage_key, record, **options)
        )
        return result

    def renew(self, renewals: Sequence[Renewal], *, until: int) -> list[bool | None]:
        result: list[bool | None] = self._around(
            "renew", lambda: super(Shaky, self).renew(renewals, until=until)
        )
        return result

    def complete(self, key: str, record: CompletedRecord, *, expire: int) -> Completion:
        result: Completion = self._around(
            "complete", lambda: super(Shaky, self).complete(key, record, expire=expire)
        )
        return result

    def release(self, key: str, owner: bytes, **lives: int) -> bool:
        result: bool = self._around(
            "release", lambda: super(Shaky, self).release(key, owner, **lives)
        )
        return result

    @contextmanager
    def listen(self, key: str, seconds: float) -> Iterator[Bell]:
        with super().listen(key, seconds) as bell:
            self.listening.release()
            yield bell


def fail(error: Exception) -> Before:
    def raise_it() -> None:
        raise error

    return raise_it
