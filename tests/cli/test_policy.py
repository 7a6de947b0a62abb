"""The command policy: what an application promises its clients."""

from __future__ import annotations

from flask import Flask

from flask_idempotent import idempotent
from tests.cli.harness import document, run
from tests.conftest import MakeApp


def app_with_a_route(make_app: MakeApp) -> Flask:
    app = make_app(wide=False)
    app.add_url_rule("/a", view_func=idempotent(lambda: "a"), endpoint="a", methods=["POST"])
    return app


class TestPolicy:
    def test_markdown(self, make_app: MakeApp) -> None:
        """``flask idempotent policy`` writes the statement as Markdown."""
        result = run(app_with_a_route(make_app), "policy")
        assert result.exit_code == 0
        assert result.output.startswith("# Repeating requests safely\n")
        assert "| POST | `/a` |" in result.output

    def test_json(self, make_app: MakeApp) -> None:
        """``--json`` writes the same for programs."""
        data = document(app_with_a_route(make_app), "policy")
        assert data["routes"][0]["methods"] == ["POST"]
