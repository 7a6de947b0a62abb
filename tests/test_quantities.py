"""Times and sizes as people write them."""

from __future__ import annotations

import pytest

from flask_idempotent._quantities import duration, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"), (0.25, "0.25 seconds"), (1, "1 second"), (59, "59 seconds"),
        (60, "1 minute"), (90, "90 seconds"), (240.0, "4 minutes"), (5400, "90 minutes"),
        (86400, "1 day"), (345600, "4 days"), (1234567.25, "1234567.25 seconds"),
    ],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    """A time has the largest unit that needs no fraction, so that nothing is rounded."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("byte_count", "text"),
    [
        (0, "0 bytes"), (1, "1 byte"), (1000, "1000 bytes"), (1536, "1536 bytes"),
        (4096, "4 KiB"), (2**20, "1 MiB"), (3 * 2**30, "3 GiB"),
    ],
)  # fmt: skip
def test_size(byte_count: int, text: str) -> None:
    """A size has the largest binary unit that needs no fraction."""
    assert size(byte_count) == text
