"""How the tests are collected and distributed, and the examples of README and docs among them."""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
from collections.abc import Generator

import coverage
import pytest
from sybil import Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

import flask_idempotent
from tests.support.console import close, run_block

# A process that a shell starts in the background ignores Ctrl-C, and so would its servers.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are cores: half of the time a file of tests waits for something."""
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Measure no coverage while tests are collected, which each process does with all of them.

    It would add half to that time. What importing the package runs is measured first.
    """
    measuring = coverage.Coverage.current()
    if measuring is None:
        return (yield)
    for module in pkgutil.walk_packages(flask_idempotent.__path__, "flask_idempotent."):
        importlib.import_module(module.name)
    measuring.stop()
    result = yield
    # The process that distributes the tests runs none of them.
    if not session.config.pluginmanager.has_plugin("dsession"):
        measuring.start()
    return result


#: Folders whose files run one after another in one process: each process that runs one of them
#: starts servers that take seconds.
TOGETHER = ("tests/contrib/sqlalchemy/", "tests/stores/redis/cluster/")


class _FilesAndFolders(LoadFileScheduling):
    """Distributes tests by file, and those of some folders together."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((folder for folder in TOGETHER if file.startswith(folder)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    return _FilesAndFolders(config, log) if config.option.dist == "loadfile" else None


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_block), SkipParser()],
    patterns=["*.md"],
    teardown=close,
).pytest()
