"""Failures: what is wrong with a view, and how to fix it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Characters of a line, beside the margin that pytest has for errors.
_WIDTH: Final = 80


class NotIdempotent(AssertionError):
    """A view is not safe to send twice, or cannot be checked; the message says how to fix it."""

    # Where it is imported from, as errors show it.
    __module__ = "flask_idempotent.testing"


@dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong, and how to fix it.

    :param what: what is wrong; the message puts "POST /orders: " before it.
    :param fix: how to fix it, in sentences. Failures with the same fix are reported once.
    :param summary: the response that was sent instead; empty where it adds nothing.
    """

    what: str
    fix: str
    summary: str = ""

    def lines(self) -> list[str]:
        """Write the response, and how to fix the failure."""
        summary = [_wrapped(f"The response: {self.summary}")] if self.summary else []
        return [*summary, _wrapped(f"How to fix it: {self.fix}")]


def error_for(failures: Sequence[Failure], request: str, view: str) -> NotIdempotent:
    """Make the error that reports the failures of a view.

    :param failures: one or more.
    :param request: method and path.
    :param view: the view's name; empty where there is none.
    """
    named = [f"The view: {view}"] if view else []
    if len(failures) == 1:
        (failure,) = failures
        return NotIdempotent(
            "\n".join([_headline(f"{request}: {failure.what}."), *named, *failure.lines()])
        )
    lines = [_headline(f"{request} failed {len(failures)} checks."), *named]
    for number, failure in enumerate(failures, 1):
        what = failure.what[0].upper() + failure.what[1:]
        lines += ["", _wrapped(f"{number}. {what}."), *failure.lines()]
    return NotIdempotent("\n".join(lines))


def _headline(text: str) -> str:
    # Python and pytest write the class before the first line.
    return _wrapped(text, len("flask_idempotent.testing.NotIdempotent: "))


def _wrapped(text: str, used: int = 0) -> str:
    # Quoted values are not broken.
    wrapped = textwrap.fill(
        text, _WIDTH, initial_indent=used * " ", break_long_words=False, break_on_hyphens=False
    )
    return wrapped.lstrip()
