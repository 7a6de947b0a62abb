"""Every problem, and applications that answer with one."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException

from flask_idempotent import problems

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
ALL = [pytest.param(kind, id=kind.slug) for kind in problems.ALL]


def app_with(problem: HTTPException) -> Flask:
    """An application whose only view raises a problem."""
    app = Flask("problems")

    @app.route("/", methods=["GET", "POST"])
    def view() -> str:
        raise problem

    return app


def client_of(problem: HTTPException) -> FlaskClient:
    return app_with(problem).test_client()
