"""Findings: what a check reports."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass


class Level(enum.StrEnum):
    """How serious a finding is."""

    #: As it should be.
    OK = "ok"
    #: Nothing is wrong as far as can be seen, but it should be known.
    NOTE = "note"
    #: A promise may be broken some day.
    WARNING = "warning"
    #: A promise is broken, or requests fail.
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check.

    :param level: how serious it is.
    :param check: what was checked, in a word.
    :param text: what was found, and what follows from it.
    :param fix: how to fix it; empty where there is nothing to fix.
    """

    level: Level
    check: str
    text: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """The finding for programs."""
        return asdict(self) | {"level": self.level.value}


def ok(check: str, text: str) -> Finding:
    return Finding(Level.OK, check, text)


def note(check: str, text: str, fix: str = "") -> Finding:
    return Finding(Level.NOTE, check, text, fix)


def warning(check: str, text: str, fix: str) -> Finding:
    return Finding(Level.WARNING, check, text, fix)


def error(check: str, text: str, fix: str) -> Finding:
    return Finding(Level.ERROR, check, text, fix)
