"""Commands that report on the application: ``policy`` and ``doctor``."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter

import click
from flask.cli import with_appcontext

from flask_idempotent._printable import printable
from flask_idempotent.cli import formatting
from flask_idempotent.cli.options import as_json, this_app
from flask_idempotent.doctor import diagnose
from flask_idempotent.doctor.findings import Finding, Level
from flask_idempotent.policy import policy_of


@click.command()
@as_json
@with_appcontext
def policy(as_json: bool) -> None:
    """Write what clients may rely on.

    It is Markdown to publish, or JSON.
    """
    found = policy_of(this_app())
    if as_json:
        formatting.write_json(found.as_dict())
    else:
        click.echo(found.as_markdown().rstrip("\n"))


@click.command()
@as_json
@with_appcontext
def doctor(as_json: bool) -> None:
    """Check store, settings and views.

    It says how to mend what is wrong, and ends with 1 when something is an error. It writes one
    small record of its own, which it deletes.
    """
    findings = diagnose(this_app())
    if as_json:
        formatting.write_json([finding.as_dict() for finding in findings])
    else:
        for finding in findings:
            _write(finding)
        numbers = Counter(finding.level for finding in findings)
        levels = (level for level in reversed(Level) if level != "ok")
        click.echo("\n" + ", ".join(formatting.counted(numbers[level], level) for level in levels))
    if any(finding.level == Level.ERROR for finding in findings):
        raise SystemExit(1)


_COLOURS = {Level.OK: "green", Level.NOTE: "blue", Level.WARNING: "yellow", Level.ERROR: "red"}
_INDENT = 24


def _write(finding: Finding) -> None:
    width = max(50, min(100, shutil.get_terminal_size().columns)) - _INDENT
    level = click.style(f"{finding.level:8}", fg=_COLOURS[finding.level])
    wrap = textwrap.TextWrapper(width, break_on_hyphens=False, break_long_words=False).wrap
    mend = f"-> {printable(finding.mend)}" if finding.mend else ""
    first, *others = wrap(printable(finding.text)) + wrap(mend)
    click.echo(f"{level} {finding.check:14} {first}")
    for line in others:
        click.echo(" " * _INDENT + line)
