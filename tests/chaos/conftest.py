"""Measures the machine's pauses, and prints the table at the end."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.pauses import ticks
from tests.chaos.services import AppService, Service, tally
from tests.chaos.serving import FULL, row_named, table
from tests.support.pauses import PauseMonitor
from tests.support.redis_servers import Server, free_port, redis_binary, valkey_binary


@pytest.fixture(scope="session", autouse=True)
def _pause_monitor() -> Iterator[None]:
    """Measure the machine's pauses all the time."""
    monitor = PauseMonitor(ticks.append)
    yield
    monitor.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count what the services did in the row that the test's class or module names."""
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


BINARIES = {"valkey": valkey_binary, "redis": redis_binary}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers that a test may break."""
    with ExitStack() as stack:

        def make(kind: str, *options: str) -> Server:
            folder = tmp_path / str(free_port())
            folder.mkdir()
            server = Server(BINARIES[kind](), folder, *options)
            stack.callback(server.stop)
            return server.start()

        yield make


@pytest.fixture(params=BINARIES)
def make_server(
    request: pytest.FixtureRequest, servers: Callable[..., Server]
) -> Callable[..., Server]:
    """Starts servers, of each kind in turn."""
    return partial(servers, request.param)


@pytest.fixture
def make_service() -> Iterator[Callable[..., Service]]:
    """Makes services, each as if in a process of its own."""
    with ExitStack() as stack:

        def make(url: str, view: Any, kind: type[Service] = AppService, **settings: Any) -> Service:
            service = kind(url, view, **settings)
            stack.callback(service.engine.close)
            return service

        yield make
