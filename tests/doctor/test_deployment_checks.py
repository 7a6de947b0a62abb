"""The doctor's checks of how an application is served."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
from flask import Flask

from flask_idempotent import signals
from flask_idempotent.doctor import deployment_checks
from flask_idempotent.doctor.findings import Finding
from flask_idempotent.policy import protected_routes
from flask_idempotent.stores.base import Store
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.web.state import state_of
from tests.conftest import MakeApp

REDIS = open_store("redis://", "tests")


def examined(app: Flask, store: Store = REDIS) -> dict[str, Finding]:
    routes = list(protected_routes(app))
    found = deployment_checks.examine(app, store, state_of(app).settings(), routes)
    return {finding.check: finding for finding in found}


def shop(make_app: MakeApp, config: dict[str, Any] | None = None, **overrides: Any) -> Flask:
    app = make_app(config=config, methods=["POST"], **overrides)
    app.add_url_rule("/orders", view_func=lambda: "", endpoint="orders", methods=["POST"])
    return app


class TestStore:
    @pytest.mark.parametrize(("testing", "level"), [(True, "note"), (False, "warning")])
    def test_memory(self, make_app: MakeApp, testing: bool, level: str) -> None:
        """memory:// is right for tests, and doubtful elsewhere."""
        app = shop(make_app, {"TESTING": testing})
        assert examined(app, MemoryStore())["store"].level == level

    @pytest.mark.parametrize(("testing", "level"), [(True, "note"), (False, "warning")])
    def test_embedded(self, make_app: MakeApp, testing: bool, level: str) -> None:
        """embedded:// forgets, which is right for development alone."""
        app = shop(make_app, {"TESTING": testing, "REDIS_URL": "embedded://"})
        assert examined(app)["store"].level == level

    def test_server(self, make_app: MakeApp) -> None:
        """Of a server nothing is said here."""
        assert "store" not in examined(shop(make_app, {"REDIS_URL": "redis://"}))


class TestWindows:
    def test_custom_key(self, make_app: MakeApp) -> None:
        """A view that finds its key itself, as for webhooks, wants more than an hour: a note."""
        found = {"key": lambda request: "k"}
        assert examined(shop(make_app, **found))["expire"].level == "note"
        assert "expire" not in examined(shop(make_app, expire=3600, **found))
        assert "expire" not in examined(shop(make_app))


class TestBodies:
    def test_w7_no_limit(self, make_app: MakeApp) -> None:
        """W7: without MAX_CONTENT_LENGTH a client decides how much is read and kept."""
        found = examined(shop(make_app))["bodies"]
        assert (found.level, found.fix[:22]) == ("warning", "Set MAX_CONTENT_LENGTH")
        assert tempfile.gettempdir() in found.text

    def test_w7_limit(self, make_app: MakeApp) -> None:
        """W7: with it all is well, and where bodies are kept is said."""
        found = examined(shop(make_app, {"MAX_CONTENT_LENGTH": 16 * 1024 * 1024}))["bodies"]
        assert found.level == "ok"
        assert "up to 16 MiB. Up to 512 KiB stay in memory" in found.text
        assert tempfile.gettempdir() in found.text

    def test_w7_no_folder(self, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
        """W7: without a folder for temporary files bodies stay in memory."""

        def refuse() -> str:
            raise FileNotFoundError("No usable temporary directory found")

        monkeypatch.setattr(tempfile, "gettempdir", refuse)
        app, store = shop(make_app, {"MAX_CONTENT_LENGTH": 1024}), REDIS
        routes = list(protected_routes(app))
        found = deployment_checks.examine(app, store, state_of(app).settings(), routes)
        bodies = [finding for finding in found if finding.check == "bodies"]
        assert [finding.level for finding in bodies] == ["warning", "ok"]
        assert "TMPDIR" in bodies[0].fix
        assert "512 KiB stay in memory, so do larger ones" in bodies[1].text

    def test_nothing_protected(self, make_app: MakeApp) -> None:
        """Where nothing is protected nothing is read."""
        assert "bodies" not in examined(make_app(wide=False))


class TestTimes:
    def test_short_lease(self, make_app: MakeApp) -> None:
        """A lease that may end while the store is silent is a warning that names the routes."""
        app = shop(make_app, lease=1)
        assert examined(app)["lease"].level == "warning"
        assert "every protected route" in examined(app)["lease"].text
        assert "lease" not in examined(shop(make_app))

    def test_web_server(self, make_app: MakeApp) -> None:
        """Which timeouts of the web server to compare by hand is a note, with our settings."""
        finding = examined(shop(make_app, timeout=20, lease=40))["gunicorn"]
        assert finding.level == "note"
        for part in (
            "IDEMPOTENT_TIMEOUT (20 s)", "IDEMPOTENT_LEASE (40 s)", "IDEMPOTENT_LINGER (5 s)",
        ):  # fmt: skip
            assert part in finding.fix


class TestPool:
    """C10: duplicates that wait may hold every connection of a database's pool."""

    def found(
        self, make_app: MakeApp, options: dict[str, Any] | None = None, **config: Any
    ) -> Finding | None:
        config["SQLALCHEMY_ENGINE_OPTIONS"] = options or {}
        app = shop(make_app, config=config)
        app.extensions["sqlalchemy"] = object()
        return examined(app).get("pool")

    def test_no_limit(self, make_app: MakeApp) -> None:
        """Without a limit of waiters the pool's size is reported, SQLAlchemy's default here."""
        finding = self.found(make_app)
        assert finding is not None
        assert (finding.level, "no limit" in finding.text) == ("note", True)
        assert "IDEMPOTENT_MAX_WAITERS below 15" in finding.fix

    @pytest.mark.parametrize(("limit", "reported"), [(4, True), (3, True), (2, False)])
    def test_limit(self, make_app: MakeApp, limit: int, reported: bool) -> None:
        """Fewer waiters than connections leave one for the first request."""
        options = {"pool_size": 2, "max_overflow": 1}
        finding = self.found(make_app, options, IDEMPOTENT_MAX_WAITERS=limit)
        assert (finding is not None) is reported

    @pytest.mark.parametrize(
        "options", [{"pool_size": 0}, {"max_overflow": -1}, {"poolclass": object}]
    )
    def test_other_pools(self, make_app: MakeApp, options: dict[str, Any]) -> None:
        """A pool without a limit, and one of another kind, is not spoken of."""
        assert self.found(make_app, options) is None

    def test_nobody_waits(self, make_app: MakeApp) -> None:
        """Where no duplicate waits there is nothing to say."""
        assert self.found(make_app, IDEMPOTENT_TIMEOUT=0) is None

    def test_receiver(self, make_app: MakeApp) -> None:
        """Where the application hears before a duplicate waits it knows what to do."""
        with signals.before_wait.connected_to(lambda *_, **__: None):
            assert self.found(make_app) is None

    def test_no_database(self, make_app: MakeApp) -> None:
        """Where there is no Flask-SQLAlchemy there is nothing to say."""
        assert "pool" not in examined(shop(make_app))
