"""Outcomes: when a client should try again."""

from __future__ import annotations

import pytest

from flask_idempotent.engine.outcomes import StillRunning

NOW = 1_000_000.0


class TestWaiting:
    @pytest.mark.parametrize(
        ("left", "waited", "ran", "after"),
        [
            pytest.param(30.0, 0.0, 0.2, 1, id="just-begun"),
            pytest.param(30.0, 0.0, 7.2, 8, id="as-long-again"),
            pytest.param(30.0, 9.0, 7.2, 9, id="at-least-what-was-waited"),
            pytest.param(4.2, 0.0, 20.0, 5, id="not-after-the-lease"),
            pytest.param(0.001, 0.0, 20.0, 1, id="lease-almost-over"),
            pytest.param(30.0, 0.0, -3600.0, 1, id="a-clock-ahead"),
            pytest.param(30.0, 0.0, 3600.0, 30, id="a-clock-behind"),
            pytest.param(None, 0.0, 7.2, 8, id="lease-unknown"),
        ],
    )
    def test_c1_retry_after(
        self, left: float | None, waited: float, ran: float, after: int
    ) -> None:
        """C1: try again after as long as the owner has run so far, between 1 s and its lease."""
        assert StillRunning(left, waited, NOW - ran).retry_after(NOW) == after

    def test_c1_unknown_start(self) -> None:
        """C1: try again after a second where the owner's start is not known."""
        assert StillRunning(30.0, waited=9.0).retry_after(NOW) == 1
