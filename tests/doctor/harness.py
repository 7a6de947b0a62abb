"""Views for the doctor to examine."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Flask

from flask_idempotent.doctor import view_checks
from flask_idempotent.doctor.findings import Finding
from flask_idempotent.policy import protected_routes

View = Callable[..., Any]


def timed(view: View) -> View:
    @wraps(view)
    def measured(*args: Any) -> Any:
        return view(*args)

    return measured


def plain() -> str:
    return ""


def examined(app: Flask) -> dict[str, Finding]:
    findings = view_checks.examine(app, list(protected_routes(app)))
    return {finding.check: finding for finding in findings}


def add_view(app: Flask, path: str, view: View) -> None:
    app.add_url_rule(path, view_func=view, endpoint=path, methods=["POST"])
