"""The command doctor: its output and its exit code."""

from __future__ import annotations

import json

from flask import Flask

from tests.cli.harness import run, store_of
from tests.conftest import MakeApp
from tests.support.redis_servers import free_port


class TestDoctor:
    def test_sound(self, app: Flask) -> None:
        """Without an error it ends with 0, and leaves no record."""
        result = run(app, "doctor")
        assert result.exit_code == 0
        assert "ok       version        The server is valkey " in result.stdout
        assert "\n                        -> Set appendonly yes.\n" in result.stdout
        assert result.stdout.splitlines()[-1] == "0 errors, 3 warnings, 3 notes"
        assert list(store_of(app).scan("")) == []

    def test_error(self, make_app: MakeApp) -> None:
        """With an error it ends with 1, and still writes its findings."""
        app = make_app(config={"REDIS_URL": f"redis://:geheim@127.0.0.1:{free_port()}/0"})
        result = run(app, "doctor", "--json")
        assert result.exit_code == 1
        first, *_ = json.loads(result.stdout)
        assert (first["level"], first["check"]) == ("error", "server")
        assert "REDIS_URL" in first["fix"]
        assert "geheim" not in result.output
