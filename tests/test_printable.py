"""Text from outside, made safe to show on one line."""

from __future__ import annotations

import pytest

from flask_idempotent._printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zürich 宽", "Zürich 宽"), ("a\r\nb\tc\0", r"a\r\nb\tc\x00"),
        ("\x1b[2J\x9b\x85", r"\x1b[2J\x9b\x85"),
        ("\u202egnp\u2066\u200b", r"\u202egnp\u2066\u200b"),
        ("\ud800\udcff", r"\ud800\xff"), ("\u2028", r"\u2028"), (7, "7"),
    ],
)  # fmt: skip
def test_printable(text: object, shown: str) -> None:
    """Control characters and the like are escaped, and letters of any alphabet are not."""
    assert printable(text) == shown
