"""JSON pointers: the path of one value in a JSON document (RFC 6901)."""

from __future__ import annotations

import re
from typing import Any

_SYNTAX = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
#: The index of an array (RFC 6901, 4): without leading zeros. ``-`` is the element after the last.
_INDEX = re.compile(r"0|[1-9][0-9]*")


class JSONPointer(str):
    """The path of one value in a JSON document, such as ``/event/id`` (RFC 6901).

    :raises ValueError: when the text is not a pointer.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> JSONPointer:
        """Check the syntax (RFC 6901, 3)."""
        if not _SYNTAX.fullmatch(text):
            raise ValueError(f"{text!r} is not a JSON pointer (RFC 6901)")
        return super().__new__(cls, text)

    def value_in(self, document: Any) -> Any:
        """Return the value in a document, as ``json.loads`` made it.

        :raises LookupError: when the document has no such value.
        """
        value = document
        for token in self.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            if isinstance(value, list) and _INDEX.fullmatch(name):
                value = value[int(name)]
            elif isinstance(value, dict):
                value = value[name]
            else:
                raise LookupError(name)
        return value
