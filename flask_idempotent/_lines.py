"""Lines: text from outside is shown on one line, and never breaks a line of the log."""

from __future__ import annotations

import logging
from typing import Final

#: Longest value in a log line, in characters: the error of a damaged record may quote megabytes.
_LONGEST: Final = 2000


def printable(text: object) -> str:
    r"""Escape whatever a terminal would not show as itself: line breaks, escapes, bidi controls.

    Bytes of a name that are not UTF-8 are shown as ``\xff``.
    """
    return "".join(c if c.isprintable() else escaped(c) for c in str(text))


def escaped(character: str) -> str:
    """Escape a character as Python does; a surrogate that stands for a byte becomes that byte."""
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return repr(character)[1:-1]


class _OneLine(logging.Filter):
    """Keeps the values of a message from breaking its line, or forging another."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(_shown, record.args))
        return True


def _shown(value: object) -> object:
    # Numbers stay numbers, for %d and for handlers that read the arguments.
    if isinstance(value, int | float) or value is None:
        return value
    text = str(value)
    return printable(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")


#: The one logger of the library.
logger: Final = logging.getLogger("flask_idempotent")
logger.addFilter(_OneLine())
