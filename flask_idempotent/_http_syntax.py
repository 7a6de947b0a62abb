"""HTTP syntax: which status lines and header fields can be sent (RFC 9110 and RFC 9112).

A character of WSGI's text stands for one byte, so nothing beyond latin-1 can be sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: A final status: an interim one, 1xx, promises that another answer follows (RFC 9110, 15.2).
_CODES = range(200, 1000)
#: So long that ``list``, which reads the beginning of a record, still finds its status whole.
_LONGEST_REASON = 200
_STATUS_LINE = re.compile(rf"[2-9][0-9]{{2}} [\t -~\x80-\xff]{{0,{_LONGEST_REASON}}}")
#: Names and values by turns, a line for each (RFC 9110, 5.1 and 5.5).
_FIELDS = re.compile(r"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+\n[\t -~\x80-\xff]*\n)*")


def is_status(status: object) -> bool:
    """Say whether this is a final status code, or a whole status line with one."""
    if type(status) is int:
        return status in _CODES
    return type(status) is str and _STATUS_LINE.fullmatch(status) is not None


def are_fields(names_and_values: Sequence[str]) -> bool:
    """Say whether these are names and values of header fields by turns."""
    # One search through all of them takes half as long as one for each.
    lines = "\n".join([*names_and_values, ""])
    return lines.count("\n") == len(names_and_values) and _FIELDS.fullmatch(lines) is not None


def check_response(status: int | str, headers: Sequence[tuple[str, str]]) -> None:
    """Check that a response can be sent.

    :raises ValueError: where it cannot; it says why, without the value of a header.
    """
    if not is_status(status):
        raise ValueError(f"{status!r} is not a final status code of three digits")
    if are_fields([part for pair in headers for part in pair]):
        return
    wrong = next(name for name, value in headers if not are_fields((name, value)))
    raise ValueError(f"the header {wrong!r} cannot be sent (RFC 9110, section 5)")
