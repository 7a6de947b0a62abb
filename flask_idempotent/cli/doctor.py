"""The command ``doctor``: what is wrong with a deployment, and how to fix it."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter

import click
from flask.cli import with_appcontext

from flask_idempotent._printable import printable
from flask_idempotent.cli import formatting
from flask_idempotent.cli.options import json_option, this_app
from flask_idempotent.doctor import diagnose
from flask_idempotent.doctor.findings import Finding, Level


@click.command("doctor")
@json_option
@with_appcontext
def doctor_command(as_json: bool) -> None:
    """Check the store, the settings and the views.

    Says how to fix what is wrong, and ends with 1 when something is an error. To check the store,
    it claims a key of its own, whose record it deletes.
    """
    findings = diagnose(this_app())
    if as_json:
        formatting.write_json([finding.as_dict() for finding in findings])
    else:
        for finding in findings:
            _write(finding)
        numbers = Counter(finding.level for finding in findings)
        levels = (level for level in reversed(Level) if level != Level.OK)
        totals = (formatting.quantity(numbers[level], level) for level in levels)
        click.echo("\n" + ", ".join(totals))
    if any(finding.level == Level.ERROR for finding in findings):
        raise SystemExit(1)


_COLOURS = {Level.OK: "green", Level.NOTE: "blue", Level.WARNING: "yellow", Level.ERROR: "red"}
_INDENT = 24


def _write(finding: Finding) -> None:
    width = max(50, min(100, shutil.get_terminal_size().columns)) - _INDENT
    level = click.style(f"{finding.level:8}", fg=_COLOURS[finding.level])
    wrap = textwrap.TextWrapper(width, break_on_hyphens=False, break_long_words=False).wrap
    fix = f"-> {printable(finding.fix)}" if finding.fix else ""
    first, *others = wrap(printable(finding.text)) + wrap(fix)
    click.echo(f"{level} {finding.check:14} {first}")
    for line in others:
        click.echo(" " * _INDENT + line)
