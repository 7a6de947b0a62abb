"""The clock of a test's store."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flask_idempotent.testing import Clock


def milliseconds(clock: Clock) -> int:
    return int(clock() * 1000)


class TestClock:
    def test_moves_when_told(self) -> None:
        """It stands still, and takes seconds or a timedelta."""
        clock = Clock()
        assert milliseconds(clock) == milliseconds(clock) == 0
        clock.advance(30)
        clock.advance(timedelta(minutes=1))
        assert milliseconds(clock) == 90_000

    def test_loses_no_millisecond(self) -> None:
        """Whatever a number's nearest float is, the store counts it in full."""
        clock = Clock()
        for n in range(1, 2000):
            clock.advance(0.001)
            assert milliseconds(clock) == n

    def test_never_goes_back(self) -> None:
        """A negative time is an error that says what was expected."""
        with pytest.raises(ValueError, match="give 0 seconds or more, not -1"):
            Clock().advance(-1)
