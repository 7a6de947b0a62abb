"""HTTP syntax: which status lines and header fields can be sent (RFC 9110 and RFC 9112).

A character of a WSGI string stands for one byte, so nothing beyond Latin-1 can be sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Final status codes. A 1xx is an interim response, and another one follows (RFC 9110, 15.2).
_FINAL_CODES = range(200, 1000)
#: In characters. A status line of this length is within the part of a record that lists read.
_LONGEST_REASON = 200
_STATUS_LINE = re.compile(rf"[2-9][0-9]{{2}} [\t -~\x80-\xff]{{0,{_LONGEST_REASON}}}")
#: Alternating names and values, each on a line (RFC 9110, 5.1 and 5.5).
_FIELDS = re.compile(r"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+\n[\t -~\x80-\xff]*\n)*")


def is_status(status: object) -> bool:
    """Return whether this is a final status code, or a status line with one."""
    if type(status) is int:
        return status in _FINAL_CODES
    return type(status) is str and _STATUS_LINE.fullmatch(status) is not None


def are_fields(names_and_values: Sequence[str]) -> bool:
    """Return whether these are names and values of header fields, alternating."""
    # One match over all of them takes half as long as one for each.
    lines = "\n".join([*names_and_values, ""])
    return lines.count("\n") == len(names_and_values) and _FIELDS.fullmatch(lines) is not None


def check_response(status: int | str, headers: Sequence[tuple[str, str]]) -> None:
    """Check that a response can be sent.

    :raises ValueError: when it cannot. The message says why, and shows no header's value.
    """
    if not is_status(status):
        raise ValueError(f"{status!r} is not a final status code of three digits")
    if are_fields([part for pair in headers for part in pair]):
        return
    invalid = next(name for name, value in headers if not are_fields((name, value)))
    raise ValueError(f"the header {invalid!r} cannot be sent (RFC 9110, section 5)")
