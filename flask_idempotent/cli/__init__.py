"""The command line: ``flask idempotent …``."""

from __future__ import annotations

from flask_idempotent.cli.options import Commands
from flask_idempotent.cli.records import list_records, show, stats
from flask_idempotent.cli.removal import purge, release
from flask_idempotent.cli.reports import doctor, policy
from flask_idempotent.cli.routes import routes, settings
from flask_idempotent.cli.watch import watch

commands = Commands(
    "idempotent",
    help="Look into what Flask-Idempotent does for this application.",
    commands=[show, list_records, release, purge, stats, watch, doctor, policy, routes, settings],
)
