"""The command line: ``flask idempotent …``."""

from __future__ import annotations

import json

import click
from flask import current_app
from flask.cli import with_appcontext

from flask_idempotent.policy import policy_of


@click.group("idempotent")
def commands() -> None:
    """Look into what Flask-Idempotent does for this application."""


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")
@with_appcontext
def policy(as_json: bool) -> None:
    """Write what this application promises its clients, as Markdown or JSON."""
    found = policy_of(current_app._get_current_object())  # type: ignore[attr-defined]
    text = json.dumps(found.as_dict(), indent=2) if as_json else found.as_markdown()
    click.echo(text.rstrip("\n"))
