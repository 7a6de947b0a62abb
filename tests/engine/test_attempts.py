"""Attempts: when a waiter looks for itself, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_idempotent.engine import attempts
from flask_idempotent.engine.attempts import POLL_EVERY, Attempt
from flask_idempotent.engine.engine import Engine
from flask_idempotent.errors import StoreUnavailable, WriteRefused
from flask_idempotent.stores.redis.client import REPLY_TIMEOUT
from tests.engine.harness import KEY, Shaky, fail, order
from tests.waiting import until

FOR_EVER = 3600.0


def pauses(patience: float, left: float = FOR_EVER) -> Iterator[float]:
    """How long a waiter sleeps again and again, until its time is over."""
    while patience > 0:
        pause = attempts._until_the_next_look(patience, left)
        yield pause
        patience -= pause


@pytest.mark.parametrize("timeout", [0.001, 0.5, 0.9, 1.0, 1.001, 1.5, 1.9, 2.0, 2.5, 10.25, 60])
def test_every_poll_in_time(timeout: float) -> None:
    """A poll each second at least, the last so early that a silent store is told by the timeout."""
    slept = list(pauses(timeout))
    assert sum(slept) == pytest.approx(timeout)
    assert min(slept) > 0
    assert max(slept) <= POLL_EVERY
    looks = [sum(slept[:number]) for number in range(1, len(slept))]
    assert all(timeout - look >= REPLY_TIMEOUT - 1e-9 for look in looks)


def test_lease_ends_before_the_poll() -> None:
    """The end of the lease is looked for at its moment."""
    assert next(pauses(60, left=0.25)) == 0.25


@pytest.mark.parametrize(("patience", "pause"), [(60, POLL_EVERY), (3.1, POLL_EVERY), (2.9, 2.9)])
def test_failed_store(patience: float, pause: float) -> None:
    """A store that failed is asked once a second, a last time while it can be told in time."""
    assert attempts._until_the_next_look(patience, None) == pause


def test_unknown_claim_is_not_forgotten(engine: Engine, shaky: Shaky) -> None:
    """A claim without a reply is given back, also when a later look did not reach the store."""
    attempt = Attempt(engine, order())
    shaky.after["claim"] = [fail(StoreUnavailable("no reply"))]
    with pytest.raises(StoreUnavailable):
        attempt.claim()
    shaky.before["claim"] = [fail(WriteRefused("full"))]
    with pytest.raises(WriteRefused):
        attempt.claim()
    attempt.forget()
    until(lambda: shaky.read(KEY) is None)
