"""Faults: what is wrong with a view, and how to mend it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Characters of a line, beside the margin that pytest has for errors.
_WIDTH: Final = 80


class NotIdempotent(AssertionError):
    """A view is not safe to send twice, or cannot be checked; the message says how to mend it."""

    # Where it is imported from, as errors show it.
    __module__ = "flask_idempotent.testing"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and how to mend it.

    :param what: goes on after "POST /orders: ".
    :param mend: whole sentences. Two faults that are mended alike are one.
    :param shown: what was answered instead; empty where that says nothing more.
    """

    what: str
    mend: str
    shown: str = ""

    def lines(self) -> list[str]:
        """What to add to ``what``: the answer, and how to mend it."""
        shown = [_wrapped(f"The answer: {self.shown}")] if self.shown else []
        return [*shown, _wrapped(f"How to mend it: {self.mend}")]


def error_of(faults: Sequence[Fault], request: str, view: str) -> NotIdempotent:
    """The error that shows the faults of a view.

    :param faults: one or more.
    :param request: method and path.
    :param view: the view's name; empty where there is none.
    """
    named = [f"The view: {view}"] if view else []
    if len(faults) == 1:
        (fault,) = faults
        return NotIdempotent(
            "\n".join([_headline(f"{request}: {fault.what}."), *named, *fault.lines()])
        )
    lines = [_headline(f"{request} has {len(faults)} faults."), *named]
    for number, fault in enumerate(faults, 1):
        what = fault.what[0].upper() + fault.what[1:]
        lines += ["", _wrapped(f"{number}. {what}."), *fault.lines()]
    return NotIdempotent("\n".join(lines))


def _headline(text: str) -> str:
    # Python and pytest write the class before the first line.
    return _wrapped(text, len("flask_idempotent.testing.NotIdempotent: "))


def _wrapped(text: str, used: int = 0) -> str:
    # What is quoted stays whole.
    wrapped = textwrap.fill(
        text, _WIDTH, initial_indent=used * " ", break_long_words=False, break_on_hyphens=False
    )
    return wrapped.lstrip()
