"""Webhooks: presets, and what ``preset()`` refuses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Blueprint

from flask_idempotent import SettingsError, idempotent, webhooks
from tests.conftest import MakeApp


class TestPreset:
    def test_of_another_sender(self) -> None:
        """``within`` and ``patience`` are the sender's; a response is kept for a day longer."""
        acme = webhooks.preset("acme", header="X-Id", within=timedelta(days=2), patience=10)
        assert (acme["expire"], acme["timeout"]) == (3 * 24 * 3600, 5)
        assert (acme["busy_status"], acme["required"]) == (503, True)
        assert acme["fingerprint"] is False
        assert webhooks.preset("acme", json="/id", within=0, patience=2)["expire"] == 24 * 3600

    def test_is_a_dict(self) -> None:
        """A view that needs another value overrides it; the preset stays as it is."""
        patient = webhooks.stripe | {"timeout": 2}
        assert patient["timeout"] == 2
        assert webhooks.stripe["timeout"] == 5

    def test_blueprint(self, make_app: MakeApp) -> None:
        """A preset suits a blueprint, and a place deep in the body."""
        app, blueprint = make_app(wide=False), Blueprint("acme", "acme")
        acme = webhooks.preset("acme", json="/events/0/a~1b", within=60, patience=5)
        runs: list[str] = []
        blueprint.post("/acme")(lambda: runs.append("run") or "ran")  # type: ignore[func-returns-value]
        app.register_blueprint(idempotent.protect(blueprint, **acme))
        for _ in "12":
            answer = app.test_client().post("/acme", json={"events": [{"a/b": "event-1"}]})
            assert answer.text == "ran"
        assert runs == ["run"]

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"header": None}, r"takes one of header= and json=.*header='X-Event-Id'"),
            ({"json": "/id"}, "takes one of header= and json="),
            ({"header": None, "json": "id"}, r"JSON pointer \(RFC 6901\).* not 'id'.*'/event/id'"),
            ({"header": None, "json": "/a~2"}, "must be a JSON pointer"),
            ({"header": None, "json": ""}, "must be a JSON pointer"),
            ({"header": None, "json": ()}, "must be a JSON pointer"),
            ({"header": None, "json": ("/id", 5)}, "must be a JSON pointer"),
            ({"header": None, "json": 5}, "must be a JSON pointer"),
            ({"header": "X Id"}, "'X Id' is not a header name"),
            ({"header": ()}, "header= must be"),
            ({"header": 5}, "header= must be"),
            ({"within": -1}, "within= must be 0 or more seconds"),
            ({"within": "3 days"}, "within= must be a number of seconds or a timedelta"),
            ({"patience": 0}, "patience= must be more than 0 seconds"),
            ({"patience": None}, "patience= must be a number of seconds or a timedelta"),
        ],
    )
    def test_wrong_arguments(self, wrong: dict[str, Any], message: str) -> None:
        """A wrong argument raises an error that says what was expected, with an example."""
        arguments: dict[str, Any] = {"header": "X-Id", "within": 60, "patience": 5}
        with pytest.raises(SettingsError, match=message):
            webhooks.preset("acme", **arguments | wrong)

    @pytest.mark.parametrize("sender", ["", "acme corp", "acme\n", None, 5])
    def test_wrong_name(self, sender: Any) -> None:
        """The name is part of the scope, in which a space ends it."""
        with pytest.raises(SettingsError, match="a string without spaces"):
            webhooks.preset(sender, header="X-Id", within=60, patience=5)
