"""The command line: ``flask idempotent …``. Each command is in the module of its name."""

from __future__ import annotations

from flask_idempotent.cli.doctor import doctor_command
from flask_idempotent.cli.list_records import list_command
from flask_idempotent.cli.options import CommandGroup
from flask_idempotent.cli.policy import policy_command
from flask_idempotent.cli.prune import prune_command
from flask_idempotent.cli.purge import purge_command
from flask_idempotent.cli.release import release_command
from flask_idempotent.cli.resolve import resolve_command
from flask_idempotent.cli.routes import routes_command
from flask_idempotent.cli.settings import settings_command
from flask_idempotent.cli.show import show_command
from flask_idempotent.cli.stats import stats_command
from flask_idempotent.cli.watch import watch_command

commands = CommandGroup(
    "idempotent",
    help="Inspect and repair an application's records, and check how it is protected.",
    commands=[
        show_command,
        list_command,
        resolve_command,
        release_command,
        purge_command,
        prune_command,
        stats_command,
        watch_command,
        doctor_command,
        policy_command,
        routes_command,
        settings_command,
    ],
)
