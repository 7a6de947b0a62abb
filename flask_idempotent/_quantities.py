"""Times and sizes as people write them, without rounding."""

from __future__ import annotations

from typing import Final

_TIMES: Final = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_SIZES: Final = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def duration(seconds: float) -> str:
    """Write a time in the largest unit that needs no fraction: 345600 is "4 days"."""
    for length, unit in _TIMES:
        if seconds >= length and seconds % length == 0:
            return _counted(seconds / length, unit)
    return _counted(seconds, "second")


def size(byte_count: int) -> str:
    """Write a number of bytes in the largest unit that needs no fraction: 1048576 is "1 MiB"."""
    for length, unit in _SIZES:
        if byte_count >= length and byte_count % length == 0:
            return f"{byte_count // length} {unit}"
    return _counted(byte_count, "byte")


def _counted(number: float, unit: str) -> str:
    return f"{number:.15g} {unit}{'' if number == 1 else 's'}"
