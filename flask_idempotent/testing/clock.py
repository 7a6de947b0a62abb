"""The clock of a test's store: it stands still until the test advances it."""

from __future__ import annotations

from datetime import timedelta


class Clock:
    """The clock that decides when leases and records end. It stands still until advanced."""

    def __init__(self) -> None:
        self._milliseconds = 0

    def __call__(self) -> float:
        # Half a millisecond more, so that rounding down never loses one.
        return (self._milliseconds + 0.5) / 1000

    def advance(self, by: float | timedelta) -> None:
        """Let time pass for the store, so that leases lapse and responses expire at once.

        :param by: seconds or a timedelta.
        :raises ValueError: when it is below 0.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        if seconds < 0:
            raise ValueError(f"a clock moves forward: give 0 seconds or more, not {seconds:g}")
        self._milliseconds += round(seconds * 1000)
