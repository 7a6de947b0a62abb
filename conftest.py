"""Runs the examples of the README and the docs as tests: Python and console blocks."""

from __future__ import annotations

import os
import signal

from sybil import Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser

from tests.support.console import close, run_block

# A process that a shell starts in the background ignores Ctrl-C, and so would its servers.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are cores: half of the time a file of tests waits for something."""
    return (os.cpu_count() or 1) + 2


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_block), SkipParser()],
    patterns=["*.md"],
    teardown=close,
).pytest()
