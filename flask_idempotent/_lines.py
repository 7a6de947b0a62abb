"""Lines: what comes from outside is shown on one line, and in the log stays on one."""

from __future__ import annotations

import logging
from typing import Final

#: Characters that a line shows of one value: a damaged record may quote megabytes of itself.
_LONGEST: Final = 2000


def printable(text: object) -> str:
    r"""Show text on one line, and let none of it command the terminal or turn its direction.

    Octets of a name that are no UTF-8 are shown as ``\xff``.
    """
    return "".join(c if c.isprintable() else escaped(c) for c in str(text))


def escaped(character: str) -> str:
    """Write a character as Python does; a lone surrogate that stands for an octet as the octet."""
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return repr(character)[1:-1]


class _OneLine(logging.Filter):
    """Lets no value break a line of the log, or forge one."""

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
