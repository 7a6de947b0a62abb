"""What the tests of the engine share: claim requests, and an engine's usual steps."""

from __future__ import annotations

from typing import Any

from flask_idempotent.engine.claims import Claim, ClaimRequest
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.worker import Worker
from flask_idempotent.settings import EngineSettings

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
