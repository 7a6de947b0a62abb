"""The command ``settings``: the value of each setting, and where it comes from."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from flask_idempotent._printable import printable
from flask_idempotent.cli import formatting
from flask_idempotent.cli.callers import protection_at
from flask_idempotent.cli.options import json_option, this_app
from flask_idempotent.cli.setting_values import as_dict, setting_values


@click.command("settings")
@click.option("--path", help="A request's path: show the settings of its view.")
@click.option("--method", default="POST", show_default=True, help="The request's method.")
@json_option
@with_appcontext
def settings_command(path: str | None, method: str, as_json: bool) -> None:
    """Show the value of each setting, and where it comes from.

    Without --path, these are the settings of a view that sets none itself. Passwords are left
    out.
    """
    app, method, protection = this_app(), method.upper(), None
    if path is not None:
        protection = protection_at(app, path, method)
        if not protection.claims:
            click.echo(_NOT_PROTECTED.format(printable(f"{method} {path}")), err=True)
    values = tuple(setting_values(app, protection))
    if as_json:
        formatting.write_json(as_dict(values))
        return
    rows = [(setting.name, setting.origin, setting.text) for setting in values]
    formatting.write_table(("SETTING", "FROM", "VALUE"), rows)


_NOT_PROTECTED = "{} is not protected. These settings would apply if it were."
