"""The runner of the pages' console blocks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.console import NOT_RUN, SERVERS, Console, shows

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]}


class TestConsole:
    def test_output_is_compared(self) -> None:
        """A command passes when it prints the shown lines, and fails otherwise."""
        console = Console()
        try:
            console.run("echo one; echo two", "two\n")
            with pytest.raises(AssertionError, match="and not:\ntwo"):
                console.run("echo one", "two\n")
            with pytest.raises(AssertionError, match="false"):
                console.run("false", "")
        finally:
            console.close()

    def test_shows(self) -> None:
        """Lines may be left out; their order counts, and all of their text."""
        printed = "HTTP/1.1 201 CREATED\nServer: gunicorn\nDate: Tue\n"
        assert shows("HTTP/1.1 201 CREATED\nDate: Tue", printed)
        assert not shows("Date: Tue\nServer: gunicorn", printed)
        assert not shows("Server: g", printed)

    @pytest.mark.parametrize(
        ("shown", "printed", "same"),
        [
            ("Expires  in 3 min 52 s", "Expires    in 4 min", True),
            ("Expires  in 3 min 52 s", "Expires  never", False),
            ("at 2026-11-28T21:26:25+00:00", "at 2027-01-01T00:00:00+00:00", True),
            ("note  It is not\n            written.", "note  It is not written.", True),
            ("Size  137 bytes", "Size  9 bytes", True),
        ],
    )  # fmt: skip
    def test_varying(self, shown: str, printed: str, same: bool) -> None:
        """What differs from run to run need only be of the same kind."""
        assert shows(shown, printed) is same

    @pytest.mark.parametrize("page", PAGES)
    def test_no_holes(self, page: str) -> None:
        """What a page shows of an output or a message is whole: no dots stand for a part of it."""
        blocks = re.findall(
            r"^`{3,}(?:console|text|json|http)\n(.*?)^`{3,}", PAGES[page], re.M | re.S
        )
        assert not [line for block in blocks for line in block.splitlines() if "..." in line]

    def test_exceptions_are_needed(self) -> None:
        """Every command that is not run, and every web server, is on some page."""
        for beginning in [*NOT_RUN, *SERVERS]:
            pattern = re.compile(rf"^\$ (\w+=\S+[\s\\]+)*{re.escape(beginning)}", re.MULTILINE)
            assert any(map(pattern.search, PAGES.values())), beginning

    @pytest.mark.parametrize("page", PAGES)
    def test_shell_is_console(self, page: str) -> None:
        """What a reader types stands in console blocks, which are run."""
        assert not re.search(r"^`{3,}(shell|bash|sh|shell-session)\b", PAGES[page], re.MULTILINE)
