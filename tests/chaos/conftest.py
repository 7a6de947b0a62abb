"""The table, once all chaos tests are over."""

from __future__ import annotations

import pytest

from tests.chaos.harness import FULL, table


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FULL and table():
        terminalreporter.section("chaos")
        terminalreporter.write_line(table())
