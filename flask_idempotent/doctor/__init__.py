"""The doctor: checks the store, the settings and the views of an application."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask_idempotent.doctor import (
    crash_checks,
    deployment_checks,
    sealing_checks,
    server_checks,
    transaction_checks,
    view_checks,
)
from flask_idempotent.doctor.findings import Finding
from flask_idempotent.policy import protected_routes
from flask_idempotent.web.state import state_of

if TYPE_CHECKING:
    from flask import Flask


def diagnose(app: Flask) -> list[Finding]:
    """Run all checks on an application.

    One of them claims a key in the store and deletes its record again.

    :returns: what each check found: first about the server, then about the deployment and the
        settings, then about the databases of transactions, then about the views.
    """
    return list(_findings(app))


def _findings(app: Flask) -> Iterator[Finding]:
    state = state_of(app)
    routes = list(protected_routes(app))
    store = state.engine.store
    replicas = max((route.settings.min_replicas for route in routes), default=0)
    yield from server_checks.examine(store, state.settings().prefix, replicas)
    yield from deployment_checks.examine(app, store, state.settings(), routes)
    yield from crash_checks.examine(app, routes)
    yield from sealing_checks.examine(store, state.settings(), routes)
    yield from transaction_checks.examine(app, routes)
    yield from view_checks.examine(app, routes)
