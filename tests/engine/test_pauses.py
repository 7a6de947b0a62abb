"""The pauses of a waiter between two polls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_idempotent._timing import POLL_EVERY, REPLY_TIMEOUT
from flask_idempotent.engine.pauses import pause_before_poll

FOR_EVER = 3600.0


def pauses(patience: float, left: float = FOR_EVER) -> Iterator[float]:
    """The pauses of a waiter until its timeout."""
    while patience > 0:
        pause = pause_before_poll(patience, left)
        yield pause
        patience -= pause


@pytest.mark.parametrize("timeout", [0.001, 0.5, 0.9, 1.0, 1.001, 1.5, 1.9, 2.0, 2.5, 10.25, 60])
def test_every_poll_in_time(timeout: float) -> None:
    """A waiter polls each second; the last poll starts in time to notice a silent store."""
    slept = list(pauses(timeout))
    assert sum(slept) == pytest.approx(timeout)
    assert min(slept) > 0
    assert max(slept) <= POLL_EVERY
    looks = [sum(slept[:number]) for number in range(1, len(slept))]
    assert all(timeout - look >= REPLY_TIMEOUT - 1e-9 for look in looks)


def test_lease_ends_before_the_poll() -> None:
    """A waiter polls at the moment when the lease ends."""
    assert next(pauses(60, left=0.25)) == 0.25


@pytest.mark.parametrize(("patience", "pause"), [(60, POLL_EVERY), (3.1, POLL_EVERY), (2.9, 2.9)])
def test_failed_store(patience: float, pause: float) -> None:
    """A store that failed is polled once a second, as long as a failure is noticed in time."""
    assert pause_before_poll(patience, None) == pause
