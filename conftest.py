"""Runs the examples of the README and the docs as tests: Python and console blocks."""

from __future__ import annotations

import signal

from sybil import Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser

from tests.support.console import close, run_block

# A process that a shell starts in the background ignores Ctrl-C, and so would its servers.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_block), SkipParser()],
    patterns=["*.md"],
    teardown=close,
).pytest()
