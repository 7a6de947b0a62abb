"""Time that stands still for the engine until a test moves it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flask_idempotent import _timing
from flask_idempotent.engine import claimant, claims, pending, renewal, steps, worker
from flask_idempotent.engine import engine as engine_module
from flask_idempotent.stores import waiters
from flask_idempotent.web import protected_request
from tests.interleavings.case import KEY, LEASE


class Time:
    """Replaces the module ``time`` in the engine."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@contextmanager
def stopped_time() -> Iterator[Time]:
    """Stop the time of the engine, and start no thread that closes engines."""
    time = Time()
    with pytest.MonkeyPatch.context() as patch:
        for module in (claimant, claims, waiters, engine_module, pending, renewal, steps, worker):
            patch.setattr(module, "time", time)
        # Polls are choices of the schedule, or come when nothing else can.
        patch.setattr(_timing, "POLL_EVERY", 2 * LEASE / 3)
        # Applications have the record's name that the search looks at.
        patch.setattr(protected_request, "storage_key", lambda *_: KEY)
        patch.setattr(engine_module, "close_in_background", lambda *_: None)
        patch.setattr(logging.getLogger("flask_idempotent"), "disabled", True)
        yield time
