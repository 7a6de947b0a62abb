"""Runs the examples of the README and the docs as tests: Python and console blocks."""

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

import flask_idempotent
from tests.support.console import close, run_block

# A process that a shell starts in the background ignores Ctrl-C, and so would its servers.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are cores: half of the time a file of tests waits for something."""
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
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
    measuring.start()
    return result


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_block), SkipParser()],
    patterns=["*.md"],
    teardown=close,
).pytest()
