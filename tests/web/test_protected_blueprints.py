"""Protected blueprints, and views that hide what protects them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from flask import Blueprint, request

from flask_idempotent import Idempotent, SettingsError, idempotent
from flask_idempotent.web.state import state_of
from tests.conftest import MakeApp
from tests.support.clients import post, problem
from tests.support.faulty_store import FaultyStore
from tests.support.protections import add_view, protection_of


class TestBlueprints:
    """``idempotent.protect`` and ``idempotent.exempt`` take blueprints."""

    @pytest.mark.parametrize("wide", [False, True])
    def test_protected(self, make_app: MakeApp, wide: bool) -> None:
        """Its views are protected with its keywords; others are left to the extension."""
        app, shop = make_app(wide=wide), Blueprint("shop", "shop")
        assert idempotent.protect(shop, required=True) is shop
        add_view(shop, "orders")
        add_view(app, "other")
        app.register_blueprint(shop)
        assert [post(app, path="/orders").text for _ in "12"] == ["run 1"] * 2
        assert problem(post(app, None, "/orders")) == (400, "key-missing")
        assert [post(app, "b", "/other").text for _ in "12"] == [
            "run 1",
            "run 1" if wide else "run 2",
        ]
        assert protection_of(app, "shop.orders").source == "blueprint shop"
        assert post(app, None, "/other").status_code == 200

    def test_behind_its_own_functions(self, make_app: MakeApp) -> None:
        """A protected blueprint's ``before_request`` comes before the key, replays included."""
        app, shop = make_app(wide=False), Blueprint("shop", "shop")
        idempotent.protect(shop)
        add_view(shop, "orders")
        shop.before_request(lambda: None if "X-Who" in request.headers else ("who?", 401))
        app.register_blueprint(shop)
        known = {"X-Who": "me"}
        answers = [post(app, path="/orders", headers=h).text for h in ({}, known, {}, known)]
        assert answers == ["who?", "run 1", "who?", "run 1"]

    @pytest.mark.parametrize("order", ["extension first", "extension last"])
    def test_keywords(self, make_app: MakeApp, order: str) -> None:
        """A view's keywords win over its blueprint's, these over the extension's."""
        app, shop = make_app(wide=False), Blueprint("shop", "shop")
        extension = Idempotent(expire=1, lease=1, timeout=1)
        if order == "extension first":
            extension.init_app(app)
        idempotent.protect(shop, expire=2, lease=2)
        add_view(shop, "decorated", idempotent(expire=3)(lambda: "ran"))
        add_view(shop, "plain")
        app.register_blueprint(shop)
        if order == "extension last":
            extension.init_app(app)
        for name, expected in {"decorated": (3, 2, 1), "plain": (2, 2, 1)}.items():
            settings = protection_of(app, f"shop.{name}").settings
            assert (settings.expire, settings.lease, settings.timeout) == expected
            assert [post(app, name, f"/{name}").status_code for _ in "12"] == [200, 200]

    def test_nested(self, make_app: MakeApp) -> None:
        """A blueprint's keywords count in those nested in it, whose own win; so with exemptions."""
        app = make_app(wide=True)
        names = ("api", "inner", "free", "again")
        api, inner, free, again = (Blueprint(name, name, url_prefix=f"/{name}") for name in names)
        idempotent.protect(api, expire=1, lease=1)
        idempotent.protect(inner, expire=2)
        idempotent.exempt(free)
        idempotent.protect(again, expire=3)
        free.register_blueprint(again)
        for nested in (inner, free):
            api.register_blueprint(nested)
        for blueprint in (api, inner, free, again):
            add_view(blueprint, "view")
        app.register_blueprint(api)
        results = {
            endpoint: (protection_of(app, endpoint).kind, protection_of(app, endpoint).source)
            for endpoint in ("api.view", "api.inner.view", "api.free.view", "api.free.again.view")
        }
        assert results == {
            "api.view": ("protected", "blueprint api"),
            "api.inner.view": ("protected", "blueprint api.inner"),
            "api.free.view": ("exempt", "blueprint api.free"),
            "api.free.again.view": ("protected", "blueprint api.free.again"),
        }
        inner_settings = protection_of(app, "api.inner.view").settings
        assert (inner_settings.expire, inner_settings.lease) == (2, 1)
        # An exemption lies between: what is around it does not count any more.
        assert protection_of(app, "api.free.again.view").settings.lease == 30
        assert [post(app, path="/api/free/view").text for _ in "12"] == ["run 1", "run 2"]
        assert [post(app, path="/api/free/again/view").text for _ in "12"] == ["run 1"] * 2

    def test_several_names_and_applications(self, make_app: MakeApp) -> None:
        """A blueprint that is registered under several names is protected under each."""
        shop = idempotent.protect(Blueprint("shop", "shop"))
        add_view(shop, "orders")
        for app in (make_app(wide=False), make_app(wide=False, name="other")):
            app.register_blueprint(shop, url_prefix="/one")
            app.register_blueprint(shop, url_prefix="/two", name="two")
            for path in ("/one/orders", "/two/orders"):
                first, second = [post(app, path, path) for _ in "12"]
                assert (first.text, second.headers["Idempotent-Replayed"]) == (second.text, "true")

    def test_exempt(self, make_app: MakeApp) -> None:
        """An exempt blueprint has no protection but that of its decorated views."""
        app, shop, runs = make_app(wide=True), Blueprint("shop", "shop"), count(1)
        add_view(shop, "plain")
        add_view(shop, "decorated", idempotent(lambda: f"run {next(runs)}"))
        app.register_blueprint(shop)
        assert idempotent.exempt(shop) is shop
        assert [post(app, path="/plain").text for _ in "12"] == ["run 1", "run 2"]
        assert [post(app, path="/decorated").text for _ in "12"] == ["run 1"] * 2
        assert protection_of(app, "shop.plain").source == "blueprint shop"

    def test_exempt_view(self, make_app: MakeApp) -> None:
        """A view of a protected blueprint may be exempt."""
        app, shop, runs = make_app(wide=False), Blueprint("shop", "shop"), count(1)
        idempotent.protect(shop)
        add_view(shop, "log", idempotent.exempt(lambda: f"run {next(runs)}"))
        app.register_blueprint(shop)
        assert [post(app, path="/log").text for _ in "12"] == ["run 1", "run 2"]

    def test_decorated_helper(self, make_app: MakeApp) -> None:
        """A decorated function that a protected blueprint's view calls makes no second claim."""
        store = FaultyStore()
        app, shop = make_app(wide=False), idempotent.protect(Blueprint("shop", "shop"))
        helper = idempotent(lambda: {"placed": True})
        add_view(shop, "orders", lambda: f"{helper()['placed']}")
        app.register_blueprint(shop)
        with state_of(app).using_store(store):
            assert [post(app, path="/orders").text for _ in "12"] == ["True", "True"]
        assert store.calls == ["claim", "complete", "claim"]


class TestHiddenViews:
    """A decorator without ``functools.wraps`` hides the ``@idempotent`` below it."""

    @staticmethod
    def hidden(view: Callable[..., Any]) -> Callable[..., Any]:
        return lambda: view()

    @pytest.mark.parametrize(
        "keywords",
        [
            {"scope": lambda request: request.headers["X-Own"]},
            {"key": lambda request: request.headers["X-Own"]},
            {"fingerprint": False},
            {"ignore_fields": ("at",)},
        ],
        ids=lambda keywords: next(iter(keywords)),
    )
    def test_whose_response_it_is(self, make_app: MakeApp, keywords: dict[str, Any]) -> None:
        """Nobody gets another's response because a keyword was not seen: it is an error."""
        app = make_app(config={"PROPAGATE_EXCEPTIONS": True})
        add_view(app, "view", self.hidden(idempotent(**keywords)(lambda: "ran")))
        for _ in "12":
            with pytest.raises(SettingsError, match=r"before .* is called.*functools\.wraps"):
                post(app, path="/view", headers={"X-Own": "me"})

    def test_other_keywords(self, make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
        """That other keywords do not apply is logged once."""
        app = make_app()
        add_view(app, "view", self.hidden(idempotent(expire=5)(lambda: "ran")))
        assert [post(app, path="/view").text for _ in "12"] == ["ran", "ran"]
        warnings = [record.message for record in caplog.records if "do not apply" in record.message]
        assert len(warnings) == 1
        assert "POST 'view'" in warnings[0]

    def test_same_settings(self, make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
        """Where nothing is lost, nothing is logged."""
        app = make_app(expire=5)
        add_view(app, "view", self.hidden(idempotent(expire=5)(lambda: "ran")))
        assert [post(app, path="/view").text for _ in "12"] == ["ran", "ran"]
        assert "do not apply" not in caplog.text
