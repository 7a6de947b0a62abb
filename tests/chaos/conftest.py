"""The machine's heart, and the table once all chaos tests are over."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.chaos.doors import tally
from tests.chaos.harness import FULL, row_named, table
from tests.chaos.stalls import Heart, beats


@pytest.fixture(scope="session", autouse=True)
def _heart() -> Iterator[None]:
    """Measure all the time by how much this machine is late."""
    heart = Heart(beats.append)
    yield
    heart.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count what went through the doors in the row that the test's class or module names."""
    report: pytest.TestReport = yield
    name = getattr(item.cls, "row", None) or getattr(item.module, "ROW", None)  # type: ignore[attr-defined]
    if name is not None and report.when == "call" and not report.skipped:
        row, counts = row_named(name), tally.take()
        row.requests += counts["requests"]
        row.runs += counts["runs"]
        row.kills += counts["kills"]
        row.faults += counts["faults"]
        row.require(report.passed, item.nodeid)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FULL and table():
        terminalreporter.section("chaos")
        terminalreporter.write_line(table())
