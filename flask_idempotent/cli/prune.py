"""The command ``prune``: delete expired answers from the databases of transactions."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from flask_idempotent.cli import formatting
from flask_idempotent.cli.answers import transactions_of
from flask_idempotent.cli.options import Refused, json_option, this_app


@click.command("prune")
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="How many answers to delete in one transaction.",
)
@json_option
@with_appcontext
def prune_command(batch: int, as_json: bool) -> None:
    """Delete expired answers from the databases of transactions.

    Run it once a day, from cron or the like. Requests go on meanwhile.
    """
    transactions = transactions_of(this_app())
    if not transactions:
        raise Refused(
            "No view has a transaction= whose answers can be deleted. Records in the store expire "
            "by themselves."
        )
    deleted = 0
    for transaction in transactions:
        while number := transaction.prune(batch):
            deleted += number
    if as_json:
        formatting.write_json({"deleted": deleted})
    else:
        click.echo(f"Deleted {formatting.quantity(deleted, 'expired answer')}.")
