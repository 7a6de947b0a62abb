"""What the doctor finds."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass


class Level(enum.StrEnum):
    """How bad a finding is."""

    #: As it should be.
    OK = "ok"
    #: Nothing is wrong as far as can be seen from here.
    NOTE = "note"
    #: A promise may be broken some day.
    WARNING = "warning"
    #: A promise is broken, or requests fail.
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    :param level: how bad it is.
    :param check: what was looked at, in a word.
    :param text: what was found, and what follows from it.
    :param mend: how to mend it, if there is anything to mend.
    """

    level: Level
    check: str
    text: str
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        """The finding for programs."""
        return asdict(self) | {"level": self.level.value}


def ok(check: str, text: str) -> Finding:
    return Finding(Level.OK, check, text)


def note(check: str, text: str, mend: str = "") -> Finding:
    return Finding(Level.NOTE, check, text, mend)


def warning(check: str, text: str, mend: str) -> Finding:
    return Finding(Level.WARNING, check, text, mend)


def error(check: str, text: str, mend: str) -> Finding:
    return Finding(Level.ERROR, check, text, mend)
