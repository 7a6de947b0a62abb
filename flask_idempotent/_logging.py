"""The library's logger. Values from outside cannot break a line of the log or forge one."""

from __future__ import annotations

import logging
from typing import Final

from flask_idempotent._printable import printable

#: Characters that are logged of a value: the error of a damaged record may quote megabytes.
_MAX_LENGTH: Final = 2000


class _OneLine(logging.Filter):
    """Escapes line breaks and control characters in the arguments of a message."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(_on_one_line, record.args))
        return True


def _on_one_line(value: object) -> object:
    # Numbers stay numbers, for %d and for handlers that read the arguments.
    if isinstance(value, int | float) or value is None:
        return value
    text = str(value)
    return printable(text if len(text) <= _MAX_LENGTH else text[:_MAX_LENGTH] + "…")


#: The one logger of the library.
logger: Final = logging.getLogger("flask_idempotent")
logger.addFilter(_OneLine())
