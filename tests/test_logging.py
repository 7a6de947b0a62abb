"""Logging: a value from outside neither breaks a line of the log nor forges one."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask, Request

from flask_idempotent import problems
from flask_idempotent._logging import logger
from flask_idempotent.errors import RecordUnreadable, StoreUnavailable
from flask_idempotent.stores.memory import MemoryStore
from tests.conftest import MakeApp

FORGERY = "1\nERROR forged \x1b[2J\u202e"


class TestLogger:
    @pytest.mark.parametrize(
        ("message", "value", "line"),
        [
            ("%s", FORGERY, r"1\nERROR forged \x1b[2J\u202e"),
            ("%s", ValueError("a\r\nb"), r"a\r\nb"),
            ("%d", 7, "7"), ("%.1f", 0.25, "0.2"), ("%s", None, "None"),
            ("%s", 3000 * "x", 2000 * "x" + "…"),
        ],
    )  # fmt: skip
    def test_values(
        self, caplog: pytest.LogCaptureFixture, message: str, value: object, line: str
    ) -> None:
        """A value is shown on one line, and a long one is cut."""
        logger.error(message, value)
        assert caplog.messages == [line]

    def test_traceback(self, caplog: pytest.LogCaptureFixture) -> None:
        """A traceback still has lines of its own."""
        try:
            raise ValueError("why")
        except ValueError:
            logger.exception("it failed")
        assert caplog.messages == ["it failed"]
        assert "\nValueError: why" in caplog.text


class TestRequests:
    """Log lines of requests whose keys, records or errors contain line breaks."""

    @pytest.fixture
    def app(self, make_app: MakeApp) -> Flask:
        """Its key function takes any text from a JSON body."""

        def key(request: Request) -> Any:
            return request.json["id"]

        app = make_app(store=MemoryStore(), key=key)
        app.add_url_rule("/", view_func=lambda: "ran", methods=["POST"])
        return app

    @pytest.fixture(autouse=True)
    def _lines(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "flask_idempotent")

    def check(self, caplog: pytest.LogCaptureFixture, expected: str) -> None:
        (line,) = [line for line in caplog.messages if expected in line]
        assert line.isprintable()
        assert "forged" not in line or r"\n" in line

    def post(self, app: Flask, **body: str) -> int:
        return app.test_client().post("/", json={"id": FORGERY} | body).status_code

    def test_replay(self, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
        """The line of a replay has the beginning of the key, escaped."""
        assert [self.post(app), self.post(app)] == [200, 200]
        self.check(caplog, r"replay: key 1\nERROR …, record")

    def test_problem(self, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
        """So has the line of a problem."""
        assert [self.post(app), self.post(app, more="x")] == [200, 422]
        self.check(caplog, rf"problem {problems.KeyReused.slug}: key 1\nERROR …")

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (RecordUnreadable(FORGERY), "cannot be read: 1"),
            (StoreUnavailable(FORGERY), "failed to claim: 1"),
        ],
    )
    def test_store(
        self,
        app: Flask,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
        expected: str,
    ) -> None:
        """The error of a record or a server is shown on one line."""

        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(MemoryStore, "claim", fail)
        assert self.post(app) == 503
        self.check(caplog, expected)
