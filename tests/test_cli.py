"""The command line, found by Flask through its entry point."""

from __future__ import annotations

import json
from importlib.metadata import entry_points

from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup

from flask_idempotent import idempotent
from flask_idempotent.cli import commands
from tests.conftest import MakeApp


def app_with_a_route(make_app: MakeApp) -> Flask:
    app = make_app(wide=False)
    app.add_url_rule("/a", view_func=idempotent(lambda: "a"), endpoint="a", methods=["POST"])
    return app


class TestPolicy:
    def test_markdown(self, make_app: MakeApp) -> None:
        """``flask idempotent policy`` writes the statement as Markdown."""
        result = app_with_a_route(make_app).test_cli_runner().invoke(commands, ["policy"])
        assert result.exit_code == 0
        assert result.output.startswith("# Repeating requests safely\n")
        assert "| POST | `/a` |" in result.output

    def test_json(self, make_app: MakeApp) -> None:
        """``--json`` writes the same for programs."""
        runner = app_with_a_route(make_app).test_cli_runner()
        result = runner.invoke(commands, ["policy", "--json"])
        assert result.exit_code == 0
        assert json.loads(result.output)["routes"][0]["methods"] == ["POST"]


def test_entry_point(make_app: MakeApp) -> None:
    """Flask finds the commands by the name ``idempotent``, in every application."""
    (found,) = entry_points(group="flask.commands", name="idempotent")
    assert found.load() is commands
    group = FlaskGroup(create_app=lambda: app_with_a_route(make_app))
    result = CliRunner().invoke(group, ["idempotent", "policy"])
    assert "| POST | `/a` |" in result.output
