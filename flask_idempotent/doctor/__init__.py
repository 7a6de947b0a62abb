"""The doctor: checks the store, the settings and the views of an application."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flask_idempotent.doctor import deployment_checks, server_checks, view_checks
from flask_idempotent.doctor.findings import Finding
from flask_idempotent.doctor.gunicorn import gunicorn_of
from flask_idempotent.policy import protected_routes
from flask_idempotent.web.state import state_of

if TYPE_CHECKING:
    from flask import Flask


def diagnose(
    app: Flask, environment: Mapping[str, str] = os.environ, folder: Path | None = None
) -> list[Finding]:
    """Check everything there is to check.

    :param environment: where gunicorn's variables are looked for.
    :param folder: where gunicorn's configuration file is looked for; the current one by default.
    """
    return list(_findings(app, environment, folder or Path.cwd()))


def _findings(app: Flask, environment: Mapping[str, str], folder: Path) -> Iterator[Finding]:
    state = state_of(app)
    routes = list(protected_routes(app))
    store = state.engine.store
    gunicorn = gunicorn_of(environment, folder)
    yield from server_checks.examine(store, state.settings().prefix)
    yield from deployment_checks.examine(app, store, state.settings(), routes, gunicorn)
    yield from view_checks.examine(app, routes)
