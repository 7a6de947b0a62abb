"""Checks of what follows a crash: how long keys are held, and who decides about their steps."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType
from typing import TYPE_CHECKING

from flask_idempotent.doctor.findings import Finding, note, warning
from flask_idempotent.doctor.routes import Routes, listed, named
from flask_idempotent.doctor.view_code import codes_of, layers

if TYPE_CHECKING:
    from flask import Flask

_HOUR = 3600


def examine(app: Flask, routes: Routes) -> Iterator[Finding]:
    """Check the views whose keys may be held after a crash."""
    with_once = [
        route
        for route in routes
        if any(_calls_once(code) for layer in layers(app, route) for code in codes_of(layer))
    ]
    holding = [
        route for route in routes if route.settings.on_crash != "rerun" or route in with_once
    ]
    yield from holds(holding)
    yield from undecided(with_once)


def holds(holding: Routes) -> Iterator[Finding]:
    """Find views that may hold a key after a crash, and whose claims are held too briefly."""
    short = [named(route) for route in holding if route.settings.hold_for < _HOUR]
    if short:
        yield warning(
            "hold",
            "A claim whose owner died is held for less than an hour, and after that its view runs "
            f"again, probably before anybody has looked. {listed(short)}",
            "Set hold_for= to the time within which an operator will look, such as a week.",
        )


def undecided(with_once: Routes) -> Iterator[Finding]:
    """Find views with a step that must not be repeated, and no function that decides about it."""
    names = [named(route) for route in with_once if not callable(route.settings.on_crash)]
    if names:
        yield note(
            "once",
            "A view seems to have a step with once=True, and on_crash is not a function: after a "
            "crash in that step its key answers 409 until an operator has resolved it. "
            + listed(names),
            "Let a function given as on_crash ask what was carried out; or let a job look at "
            "flask idempotent list --held.",
        )


def _calls_once(code: CodeType) -> bool:
    """Whether a function seems to call ``step`` with the keyword ``once``."""
    names = (*code.co_names, *code.co_freevars)
    keywords = (part for part in code.co_consts if isinstance(part, tuple))
    return "step" in names and any("once" in part for part in keywords)
