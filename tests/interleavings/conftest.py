"""Prints how many schedules ran at the end of the report."""

from __future__ import annotations

import pytest

from tests.interleavings.explore import ran


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ran:
        counts = ", ".join(f"{count:,} {store}" for store, count in ran.items())
        terminalreporter.write_line(f"interleavings: {counts}")
