"""How the command line reads and writes."""

from __future__ import annotations

import json

import click
import pytest

from flask_idempotent.cli import formatting


class TestParseDuration:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("30s", 30), ("1.5", 1.5), ("5m", 300), ("2h", 7200), ("1d", 86400), ("250ms", 0.25)],
    )
    def test_units(self, text: str, seconds: float) -> None:
        """A number with a unit, or of seconds."""
        assert formatting.parse_duration(text) == seconds

    @pytest.mark.parametrize("text", ["", "soon", "-1s", "5 weeks"])
    def test_anything_else(self, text: str) -> None:
        """Anything else is refused with an example."""
        with pytest.raises(click.BadParameter, match="Write it as 30s, 5m, 2h or 1d"):
            formatting.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"), (9.94, "9.9 s"), (42, "42 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"),
        (100_000, "1 d 3 h"), (-0.04, "-0.0 s"), (1e300, "> 1000 years"),
        (float("inf"), "> 1000 years"), (float("nan"), "> 1000 years"),
    ],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    """Durations are written with their two largest units."""
    assert formatting.duration(seconds) == text


def test_json_text() -> None:
    """Infinite numbers and NaN are null, and lone surrogates are escaped as text."""
    data = {
        "times": (1.5, float("nan"), [float("inf")]),
        "name": "\udcff\n宽",
        "n": 2**64,
        "x": None,
    }
    assert json.loads(formatting.json_text(data)) == {
        "times": [1.5, None, [None]], "name": "\\xff\n宽", "n": 2**64, "x": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1 byte"), (66, "66 bytes"), (2048, "2.0 KiB"), (3 * 2**20, "3.0 MiB"),
        (5 * 2**30, "5.0 GiB"),
    ],
)  # fmt: skip
def test_size(number: int, text: str) -> None:
    """Sizes are written with binary units."""
    assert formatting.size(number) == text
