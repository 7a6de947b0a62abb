"""The commands that report on the application: policy and doctor."""

from __future__ import annotations

import json

from flask import Flask

from flask_idempotent import idempotent
from tests.cli.harness import document, run, store_of
from tests.conftest import MakeApp
from tests.support.redis_servers import free_port


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
        found = document(app_with_a_route(make_app), "policy")
        assert found["routes"][0]["methods"] == ["POST"]


class TestDoctor:
    def test_sound(self, app: Flask) -> None:
        """Without an error it ends with 0 and leaves nothing behind."""
        result = run(app, "doctor")
        assert result.exit_code == 0
        assert "ok       version        The server is valkey " in result.stdout
        assert "\n                        -> Set appendonly yes.\n" in result.stdout
        assert result.stdout.splitlines()[-1] == "0 errors, 3 warnings, 2 notes"
        assert list(store_of(app).scan("")) == []

    def test_error(self, make_app: MakeApp) -> None:
        """With an error it ends with 1, and what it found is a document all the same."""
        app = make_app(config={"REDIS_URL": f"redis://:geheim@127.0.0.1:{free_port()}/0"})
        result = run(app, "doctor", "--json")
        assert result.exit_code == 1
        first, *_ = json.loads(result.stdout)
        assert (first["level"], first["check"]) == ("error", "server")
        assert "Check REDIS_URL" in first["mend"]
        assert "geheim" not in result.output
