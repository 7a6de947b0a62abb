"""Faults: what is wrong with a view, and how to mend it."""

from __future__ import annotations

import textwrap
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
    :param mend: whole sentences.
    :param shown: what was answered instead; empty where that says nothing more.
    """

    what: str
    mend: str
    shown: str = ""

    def error(self, request: str, view: str) -> NotIdempotent:
        """The error that shows it.

        :param request: method and path.
        :param view: the view's name; empty where there is none.
        """
        first = _wrapped(
            f"{request}: {self.what}.", len("flask_idempotent.testing.NotIdempotent: ")
        )
        rest = [f"The view: {view}"] if view else []
        if self.shown:
            rest.append(_wrapped(f"The answer: {self.shown}"))
        rest.append(_wrapped(f"How to mend it: {self.mend}"))
        return NotIdempotent("\n".join([first, *rest]))


def _wrapped(text: str, used: int = 0) -> str:
    # Python and pytest write the class before the first line; what is quoted stays whole.
    wrapped = textwrap.fill(
        text, _WIDTH, initial_indent=used * " ", break_long_words=False, break_on_hyphens=False
    )
    return wrapped.lstrip()
