"""Runs the examples of the README and the docs as tests: Python and console blocks."""

from __future__ import annotations

from sybil import Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser

from tests.console import close, run_block

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_block), SkipParser()],
    patterns=["*.md"],
    teardown=close,
).pytest()
