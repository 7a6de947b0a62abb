"""The command ``policy``: what an application promises its clients."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from flask_idempotent.cli import formatting
from flask_idempotent.cli.options import json_option, this_app
from flask_idempotent.policy import policy_of


@click.command("policy")
@json_option
@with_appcontext
def policy_command(as_json: bool) -> None:
    """Write what clients may rely on, as Markdown or JSON."""
    policy = policy_of(this_app())
    if as_json:
        formatting.write_json(policy.as_dict())
    else:
        click.echo(policy.as_markdown().rstrip("\n"))
