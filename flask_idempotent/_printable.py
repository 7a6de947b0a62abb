"""Text from outside, made safe to show on one line of a terminal or a log."""

from __future__ import annotations


def printable(text: object) -> str:
    r"""Escape every character that a terminal does not show as itself.

    These are line breaks, escape sequences and bidirectional controls. Bytes that are not UTF-8,
    which Python reads as surrogates, become ``\xff`` and the like.
    """
    return "".join(c if c.isprintable() else escaped(c) for c in str(text))


def escaped(character: str) -> str:
    """Escape a character as ``repr`` does; a surrogate that stands for a byte becomes that byte."""
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return repr(character)[1:-1]
