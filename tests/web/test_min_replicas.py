"""``min_replicas`` from a view's setting to its answer."""

from __future__ import annotations

from itertools import count

import pytest
from flask import Flask

from flask_idempotent import SettingsError, TooFewReplicas, idempotent
from flask_idempotent.stores.base import Store
from flask_idempotent.stores.embedded import open_embedded
from flask_idempotent.stores.memory import MemoryStore
from tests.conftest import MakeApp
from tests.support.clients import WayIn, post, problem
from tests.support.faulty_store import FaultyStore, fail

TOO_FEW = TooFewReplicas("1 replicas must confirm, and 0 did")


class OwnStore(MemoryStore):
    """A store of the application's, which does not know the setting."""

    confirmed_by = Store.confirmed_by  # type: ignore[assignment]


def add_views(app: Flask) -> None:
    runs = count(1)

    @app.post("/plain")
    def plain() -> str:
        return f"run {next(runs)}"

    @app.post("/confirmed")
    @idempotent(min_replicas=1)
    def confirmed() -> str:
        return f"run {next(runs)}"


class TestAnswers:
    def test_claim(self, way: WayIn) -> None:
        """A claim that too few replicas confirm is answered 503, and its view does not run."""
        store, runs = FaultyStore(), count(1)
        app = way.app(store=store, min_replicas=1)
        app.add_url_rule("/", "view", way(lambda: f"run {next(runs)}"), methods=["POST"])
        store.after["claim"] = [fail(TOO_FEW)]
        answer = post(app)
        assert problem(answer) == (503, "store-unavailable")
        assert answer.headers["Retry-After"] == "1"
        assert post(app).text == "run 1"

    def test_completion(self, way: WayIn) -> None:
        """A response that too few replicas confirm is the client's answer, and is replayed."""
        store, runs = FaultyStore(), count(1)
        app = way.app(store=store, min_replicas=1)
        app.add_url_rule("/", "view", way(lambda: f"run {next(runs)}"), methods=["POST"])
        store.after["complete"] = [fail(TOO_FEW)]
        assert [post(app).text for _ in range(2)] == ["run 1"] * 2


class TestStores:
    def test_own_store(self, make_app: MakeApp) -> None:
        """A store that does not know the setting is refused where a view has it, and only there."""
        app = make_app(store=OwnStore(), config={"PROPAGATE_EXCEPTIONS": True})
        add_views(app)
        with pytest.raises(
            SettingsError, match="min_replicas needs replicas, and OwnStore has none"
        ):
            post(app, path="/confirmed")
        assert post(app, path="/plain").text == "run 1"

    @pytest.mark.parametrize("url", ["memory://", "embedded://"])
    def test_one_machine(self, make_app: MakeApp, url: str) -> None:
        """Stores for tests and development have no replicas, and serve such a view all the same."""
        if url == "memory://":
            app = make_app()
            add_views(app)
            assert [post(app, path="/confirmed").text for _ in range(2)] == ["run 1"] * 2
            return
        store = open_embedded("replicas")
        assert store.confirmed_by(1) is store
