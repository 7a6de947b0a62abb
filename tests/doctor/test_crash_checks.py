"""The doctor's checks of what follows a crash."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from flask_idempotent import step
from flask_idempotent.doctor import crash_checks
from flask_idempotent.doctor.findings import Finding
from flask_idempotent.policy import protected_routes
from tests.conftest import MakeApp
from tests.doctor.harness import View, add_view, plain, timed


def charge() -> str:
    return step("charge", plain, once=True)


async def charge_later() -> str:
    return await step("charge", charge_later, once=True)


def reserve() -> str:
    return step("reserve", plain)


def examined(make_app: MakeApp, view: View, **overrides: Any) -> dict[str, Finding]:
    app: Flask = make_app(**overrides)
    add_view(app, "/orders", view)
    findings = crash_checks.examine(app, list(protected_routes(app)))
    return {finding.check: finding for finding in findings}


class TestHold:
    def test_short(self, make_app: MakeApp) -> None:
        """Held for less than an hour, a view runs again before anybody looks: a warning."""
        short = examined(make_app, plain, on_crash="hold", hold_for=3599)
        assert short["hold"].level == "warning"
        assert "hold" not in examined(make_app, plain, on_crash="hold")
        assert "hold" not in examined(make_app, plain, hold_for=1)

    def test_step(self, make_app: MakeApp) -> None:
        """A view with a step that must not be repeated may hold a key, whatever ``on_crash``."""
        assert examined(make_app, charge, hold_for=3599)["hold"].level == "warning"
        assert "hold" not in examined(make_app, reserve, hold_for=3599)


class TestOnce:
    @pytest.mark.parametrize("view", [charge, charge_later, timed(charge)])
    def test_undecided(self, make_app: MakeApp, view: View) -> None:
        """Where no function decides about a step with ``once=True``, somebody must look: a note."""
        finding = examined(make_app, view)["once"]
        assert (finding.level, "POST /orders" in finding.text) == ("note", True)

    def test_decided(self, make_app: MakeApp) -> None:
        """A function that decides, or no such step, is nothing to note."""
        assert "once" not in examined(make_app, charge, on_crash=lambda crash: "hold")
        assert "once" not in examined(make_app, reserve)
        assert "once" not in examined(make_app, plain)
