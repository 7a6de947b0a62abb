"""The public surface is that of the list: what changes it is seen.

``python -m tests.golden`` writes ``surface.txt``. A line that is added is a minor release; one that
is gone or changed is a major one, after a release in which the old form warned. docs/versions.md
says what is part of it.
"""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

import flask_idempotent
from tests.golden.surface import surface

LIST = Path(__file__).parent / "surface.txt"


def test_is_that_of_the_list() -> None:
    """Names, signatures, settings, commands, signals and problems are those of the list."""
    changes = unified_diff(LIST.read_text(encoding="utf-8").splitlines(), surface(), n=0)
    assert not "\n".join(changes), "python -m tests.golden writes the list again"


def test_is_typed() -> None:
    """Type checkers read the package's own types; ``make types`` fails where one is missing."""
    assert (Path(flask_idempotent.__file__).parent / "py.typed").exists()
