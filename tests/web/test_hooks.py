"""Hooks: the functions that find the key, the scope and the fingerprint."""

from __future__ import annotations

from itertools import count

import pytest
from flask import Flask, Request, render_template_string

from flask_idempotent import Idempotent, SettingsError, current_claim, idempotent
from flask_idempotent.web.state import state_of
from tests.conftest import MakeApp
from tests.support.clients import post, problem, recorded
from tests.support.faulty_store import FaultyStore
from tests.support.views import add_view


class TestKeyFinder:
    @pytest.fixture
    def store(self) -> FaultyStore:
        return FaultyStore()

    @pytest.fixture
    def extension(self, store: FaultyStore) -> Idempotent:
        return Idempotent(store=store)

    @pytest.fixture
    def app(self, make_app: MakeApp, extension: Idempotent) -> Flask:
        app = make_app(wide=False)
        extension.init_app(app)
        app.add_url_rule("/", "view", lambda: str(current_claim.key), methods=["POST"])
        return app

    def test_later_is_asked_when_earlier_find_nothing(
        self, app: Flask, extension: Idempotent
    ) -> None:
        """Finders are asked in order, and only where the usual places have no key."""
        asked = []

        @extension.key_finder
        def first(request: Request) -> str | None:
            asked.append("first")
            return request.headers.get("X-First")

        @extension.key_finder
        def second(request: Request) -> str | None:
            asked.append("second")
            return request.headers.get("X-Second")

        assert post(app, None, headers={"X-First": "a", "X-Second": "b"}).text == "a"
        assert post(app, None, headers={"X-Second": "b"}).text == "b"
        assert post(app, "c", headers={"X-Second": "b"}).text == "c"
        assert asked == ["first", "first", "second"]
        assert first.__name__ == "first"

    @pytest.mark.parametrize("found", [None, ""])
    def test_finds_nothing(
        self, app: Flask, extension: Idempotent, store: FaultyStore, found: str | None
    ) -> None:
        """A finder that finds nothing leaves a request without a key."""
        extension.key_finder(lambda request: found)
        assert post(app, None).status_code == 500
        assert store.calls == []

    def test_too_long(self, app: Flask, extension: Idempotent) -> None:
        """K5: a key that a finder returns and that is too long is a 400 that says so."""
        extension.key_finder(lambda request: 256 * "k")
        with recorded(app) as events:
            assert problem(post(app, None)) == (400, "key-invalid")
        assert [(name, data["problem"]) for name, data in events] == [("rejected", "key-invalid")]

    def test_wrong_type(self, app: Flask, extension: Idempotent, store: FaultyStore) -> None:
        """A finder that returns something else fails the request."""
        extension.key_finder(lambda request: 7.5)  # type: ignore[type-var]
        assert post(app, None).status_code == 500
        assert store.calls == []

    def test_key_keyword_replaces_all_places(self, make_app: MakeApp) -> None:
        """``key`` replaces headers, form and query; None means no key."""
        app = make_app(key=lambda request: request.headers.get("X-Own"))
        add_view(app)
        own = {"X-Own": "own"}
        assert [post(app, ",").text for _ in range(2)] == ["run 1", "run 2"]
        assert [post(app, ",", headers=own).text for _ in range(2)] == ["run 3"] * 2


class TestHooks:
    def test_scope(self, make_app: MakeApp) -> None:
        """F6: the function given to ``scope`` says who the key belongs to, over the keyword's."""
        app = make_app(wide=False)
        extension = Idempotent(app, scope=lambda request: "everybody")
        add_view(app)

        @extension.scope
        def account(request: Request) -> str:
            return request.headers["X-Account"]

        answers = [post(app, headers={"X-Account": name}).text for name in ("a", "b", "a")]
        assert answers == ["run 1", "run 2", "run 1"]
        assert account.__name__ == "account"

    def test_fingerprint(self, make_app: MakeApp) -> None:
        """The function given to ``fingerprint`` says what makes two requests the same."""
        app = make_app(wide=False)
        extension = Idempotent(app)
        add_view(app)

        @extension.fingerprint
        def order(request: Request) -> str:
            return str(request.get_json()["order"])

        sent = [{"order": "1", "at": 1}, {"order": "1", "at": 2}, {"order": "2", "at": 1}]
        assert [post(app, json=body).status_code for body in sent] == [200, 200, 422]
        assert order.__name__ == "order"

    def test_no_fingerprint(self, make_app: MakeApp) -> None:
        """``fingerprint=False`` compares nothing but the key."""
        app = make_app(fingerprint=False)
        add_view(app)
        assert [post(app, data=body).text for body in ("a", "b")] == ["run 1"] * 2

    @pytest.mark.parametrize("hook", ["scope", "fingerprint", "key_finder"])
    def test_settings_were_looked_at_before(self, make_app: MakeApp, hook: str) -> None:
        """A hook counts though somebody has asked for the settings before it was registered."""
        app = make_app(wide=False)
        extension = Idempotent(app)
        add_view(app)
        with app.test_request_context("/", method="POST"):
            render_template_string("{{ idempotent_input() }}")
        assert state_of(app).protections.of("view", "POST").settings.scope is None
        getattr(extension, hook)(lambda request: request.headers["X-Own"])
        key = None if hook == "key_finder" else "key-one"
        answers = [post(app, key, headers={"X-Own": own}).text for own in ("a", "b", "a")]
        expected = {"scope": ["run 1", "run 2", "run 1"], "key_finder": ["run 1", "run 2", "run 1"]}
        assert [answers[0], answers[2]] == ["run 1", "run 1"]
        assert answers == expected.get(hook, answers)
        assert hook != "fingerprint" or "key-reused" in answers[1]

    @pytest.mark.parametrize("hook", ["scope", "fingerprint"])
    def test_too_late(self, make_app: MakeApp, hook: str) -> None:
        """After the first request of one of its applications a hook is refused."""
        extension = Idempotent()
        register = getattr(extension, hook)

        def early(request: Request) -> str:
            return request.headers["X-Own"]

        register(early)
        for name in ("one", "two"):
            extension.init_app(app := make_app(wide=False, name=name))
        post(app, None)
        assert register(early) is early
        with pytest.raises(SettingsError, match=rf"{hook} function .* 'two' has served its first"):
            register(lambda request: "late")

    def test_key_finder_late(self, make_app: MakeApp) -> None:
        """A key finder counts from the moment that it is registered."""
        app = make_app(wide=False)
        extension = Idempotent(app)
        add_view(app)
        assert [post(app, None).text for _ in "12"] == ["run 1", "run 2"]
        extension.key_finder(lambda request: "found")
        assert [post(app, None).text for _ in "12"] == ["run 3", "run 3"]

    def test_view_wins(self, make_app: MakeApp) -> None:
        """A keyword of the view wins over the extension's hook."""
        app = make_app(wide=False)
        extension = Idempotent(app)
        runs = count(1)
        view = idempotent(scope=lambda request: None)(lambda: f"run {next(runs)}")
        app.add_url_rule("/", "view", view, methods=["POST"])
        extension.scope(lambda request: request.headers["X-Account"])
        answers = [post(app, headers={"X-Account": name}).text for name in ("a", "b")]
        assert answers == ["run 1", "run 1"]
