"""Views to protect, and what protects them."""

from __future__ import annotations

from itertools import count
from typing import Any

from flask import Blueprint, Flask

from flask_idempotent.web.protection import Protection
from flask_idempotent.web.state import state_of


def protection_of(app: Flask, endpoint: str, method: str = "POST") -> Protection:
    return state_of(app).protections.of(endpoint, method)


def add_view(app: Flask | Blueprint, name: str, view: Any = None) -> None:
    """Add a view that answers with the number of its run, or the given one."""
    runs = count(1)
    app.add_url_rule(f"/{name}", name, view or (lambda: f"run {next(runs)}"), methods=["POST"])
