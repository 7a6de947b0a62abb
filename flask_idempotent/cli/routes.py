"""Commands that say what protects an application: ``routes`` and ``settings``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
from flask import Flask
from flask.cli import with_appcontext

from flask_idempotent._http_semantics import SAFE_METHODS, UNTRACKED_METHODS
from flask_idempotent._printable import printable
from flask_idempotent.cli import formatting
from flask_idempotent.cli.effective import Effective, effective
from flask_idempotent.cli.options import as_json, this_app
from flask_idempotent.cli.record_argument import protection_at
from flask_idempotent.options import KEYWORDS
from flask_idempotent.web.placement import misplaced
from flask_idempotent.web.protection import Kind, Protection
from flask_idempotent.web.routes import routes_of
from flask_idempotent.web.state import state_of


@dataclass(frozen=True, slots=True)
class _Row:
    """What is shown of a route.

    :param methods: those that are protected alike.
    :param state: ``protected``, ``exempt`` or ``unprotected``.
    :param source: who says so; None where nobody does.
    :param note: why it is not protected, where that may surprise.
    """

    methods: tuple[str, ...]
    path: str
    endpoint: str
    state: str
    source: str | None
    note: str | None
    settings: tuple[Effective, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same for programs."""
        return asdict(self) | {"settings": _as_dict(self.settings)}


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also routes that only read.")
@as_json
@with_appcontext
def routes(everything: bool, as_json: bool) -> None:
    """List routes: what protects each of them, and with which settings.

    The settings that are not defaults are shown, with where they come from; JSON has all of them.
    """
    rows = list(_rows(this_app(), everything))
    if as_json:
        formatting.write_json([row.as_dict() for row in rows])
        return
    head, *lines = formatting.columns(("STATE", "METHODS", "ROUTE", "BY"), map(_cells, rows))
    click.echo("".join(head))
    for line, row in zip(lines, rows, strict=True):
        click.echo(formatting.wrapped(*line))
        if given := _given(row):
            click.echo(formatting.wrapped(_INDENT, given))
    numbers = Counter(row.state for row in rows)
    click.echo("\n" + ", ".join(f"{numbers[state]} {state}" for state in Kind))


def _rows(app: Flask, everything: bool) -> Iterator[_Row]:
    hidden = UNTRACKED_METHODS if everything else SAFE_METHODS
    refused = {view.endpoint for view in misplaced(app)}
    for rule, methods, found in routes_of(app, state_of(app).protections):
        state, note = _state(found, rule.endpoint in refused)
        protected = state is Kind.PROTECTED
        shown = tuple(method for method in methods if protected or method not in hidden)
        values = effective(app, found.settings, found.layers) if protected else ()
        given = tuple(value for value in values if value.name in KEYWORDS)
        if shown:
            yield _Row(shown, rule.rule, rule.endpoint, state, found.source or None, note, given)


def _state(found: Protection, refused: bool) -> tuple[Kind, str | None]:
    if refused:
        return Kind.UNPROTECTED, "@idempotent above the route: every request fails"
    if found.kind is Kind.PROTECTED and not found.claims:
        return Kind.UNPROTECTED, "the method is not tracked"
    return found.kind, None


def _cells(row: _Row) -> tuple[str, ...]:
    return row.state, ", ".join(row.methods), row.path, row.note or row.source or ""


def _given(row: _Row) -> str:
    return ", ".join(
        f"{setting.name} {setting.text} ({setting.origin})"
        for setting in row.settings
        if setting.origin != "default"
    )


#: Before the settings of a route, which stand below it.
_INDENT = " " * 4


@click.command()
@click.option("--path", help="A request's path: the settings of the view that it reaches.")
@click.option("--method", default="POST", show_default=True, help="The request's method.")
@as_json
@with_appcontext
def settings(path: str | None, method: str, as_json: bool) -> None:
    """Show the settings that count, and where each comes from.

    Without --path they are those of a view that has none of its own. No password is shown.
    """
    app, method = this_app(), method.upper()
    protections = state_of(app).protections
    resolved, layers = protections.settings(), protections.extension
    if path is not None:
        found = protection_at(app, path, method)
        if not found.claims:
            click.echo(_NOT_PROTECTED.format(printable(f"{method} {path}")), err=True)
        resolved, layers = found.settings, found.layers
    values = tuple(effective(app, resolved, layers))
    if as_json:
        formatting.write_json(_as_dict(values))
        return
    rows = [(setting.name, setting.origin, setting.text) for setting in values]
    formatting.write_table(("SETTING", "FROM", "VALUE"), rows)


def _as_dict(values: Sequence[Effective]) -> dict[str, Any]:
    return {setting.name: {"value": setting.value, "from": setting.origin} for setting in values}


_NOT_PROTECTED = "{} is not protected: these would count if it were."
