"""Pauses: how long a waiter waits until it polls the store."""

from __future__ import annotations

from flask_idempotent import _timing


def pause_before_poll(remaining: float, lease_left: float | None) -> float:
    """Seconds until the next poll.

    :param remaining: seconds until the timeout.
    :param lease_left: seconds until the other's lease ends; None where the store failed.
    """
    if lease_left is None:
        # The store may have fallen silent, so the last poll must begin in time.
        is_time_left = remaining > _timing.POLL_EVERY + _timing.STORE_FAILS_WITHIN
        return _timing.POLL_EVERY if is_time_left else remaining
    return min(_timing.POLL_EVERY, pause_before_last_poll(remaining), lease_left)


def pause_before_last_poll(remaining: float) -> float:
    """Seconds until the last poll before the timeout.

    :param remaining: seconds until the timeout.
    """
    # The store may fall silent: start so early that its silence is known at the timeout.
    if remaining > _timing.POLL_EVERY:
        return remaining - _timing.REPLY_TIMEOUT
    return remaining
