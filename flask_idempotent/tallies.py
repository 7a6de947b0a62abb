"""Tallies: requests counted by what came of them, where one process can tell of all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


class Tally(ABC):
    """Something in ``app.extensions`` that counts an application's requests."""

    @abstractmethod
    def requests(self) -> Mapping[str, int] | None:
        """The requests of all processes by outcome, such as ``"claimed"`` or ``"replayed"``.

        :returns: None where the other processes' numbers cannot be read from this one.
        """


def tallies_of(app: Flask) -> Iterator[Tally]:
    """Whatever counts the requests of an application."""
    for extension in app.extensions.values():
        if isinstance(extension, Tally):
            yield extension


def hit_rate(outcomes: Mapping[str, int]) -> float | None:
    """How many of the requests that have a response had a stored one; None when there are none."""
    replayed = outcomes.get("replayed", 0)
    answered = outcomes.get("claimed", 0) + replayed
    return replayed / answered if answered else None
