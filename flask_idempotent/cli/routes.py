"""The command ``routes``: which routes are protected, by what, and with which settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click
from flask import Flask
from flask.cli import with_appcontext

from flask_idempotent._http_semantics import SAFE_METHODS, UNTRACKED_METHODS
from flask_idempotent.cli import formatting
from flask_idempotent.cli.options import json_option, this_app
from flask_idempotent.cli.setting_values import SettingValue, as_dict, setting_values
from flask_idempotent.options import KEYWORDS
from flask_idempotent.web.placement import misplaced
from flask_idempotent.web.protection import Kind, Protection
from flask_idempotent.web.routes import routes_of
from flask_idempotent.web.state import state_of


@dataclass(frozen=True, slots=True)
class _Row:
    """One route, or those of its methods that are protected in the same way.

    :param state: protected, exempt or unprotected.
    :param source: what protects or exempts it; None for an unprotected route.
    :param note: why it is not protected, where that may surprise.
    """

    methods: tuple[str, ...]
    path: str
    endpoint: str
    state: str
    source: str | None
    note: str | None
    settings: tuple[SettingValue, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"settings": as_dict(self.settings)}


@click.command("routes")
@click.option("--all", "everything", is_flag=True, help="Also list routes that only read.")
@json_option
@with_appcontext
def routes_command(everything: bool, as_json: bool) -> None:
    """List the routes, what protects each, and its settings.

    Settings that have their default are left out; --json has all of them.
    """
    rows = list(_rows(this_app(), everything))
    if as_json:
        formatting.write_json([row.as_dict() for row in rows])
        return
    head, *lines = formatting.columns(("STATE", "METHODS", "ROUTE", "BY"), map(_cells, rows))
    click.echo("".join(head))
    for line, row in zip(lines, rows, strict=True):
        click.echo(formatting.wrapped(*line))
        if changed := _changed_settings(row):
            click.echo(formatting.wrapped(_INDENT, changed))
    numbers = Counter(row.state for row in rows)
    click.echo("\n" + ", ".join(f"{numbers[state]} {state}" for state in Kind))


def _rows(app: Flask, everything: bool) -> Iterator[_Row]:
    hidden = UNTRACKED_METHODS if everything else SAFE_METHODS
    failing = {view.endpoint for view in misplaced(app)}
    for rule, methods, protection in routes_of(app, state_of(app).protections):
        state, note = _state(protection, rule.endpoint in failing)
        is_protected = state is Kind.PROTECTED
        shown = tuple(method for method in methods if is_protected or method not in hidden)
        values = setting_values(app, protection) if is_protected else ()
        settings = tuple(value for value in values if value.name in KEYWORDS)
        source = protection.source or None
        if shown:
            yield _Row(shown, rule.rule, rule.endpoint, state, source, note, settings)


def _state(protection: Protection, fails: bool) -> tuple[Kind, str | None]:
    if fails:
        return Kind.UNPROTECTED, "@idempotent above the route: every request fails"
    if protection.kind is Kind.PROTECTED and not protection.claims:
        return Kind.UNPROTECTED, "the method is not tracked"
    return protection.kind, None


def _cells(row: _Row) -> tuple[str, ...]:
    return row.state, ", ".join(row.methods), row.path, row.note or row.source or ""


def _changed_settings(row: _Row) -> str:
    return ", ".join(
        f"{setting.name} {setting.text} ({setting.origin})"
        for setting in row.settings
        if setting.origin != "default"
    )


#: Before the settings of a route, on the line below it.
_INDENT = " " * 4
