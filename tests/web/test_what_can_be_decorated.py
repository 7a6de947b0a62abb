"""What cannot be decorated, exempted or protected is an error that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.views import MethodView, View

from flask_idempotent import SettingsError, idempotent
from tests.conftest import MakeApp
from tests.support.views import logged


@pytest.fixture(params=[False, True], ids=["alone", "below the extension"])
def app(request: pytest.FixtureRequest, make_app: MakeApp) -> Flask:
    return make_app(wide=request.param, config={"PROPAGATE_EXCEPTIONS": True})


class Orders(MethodView):
    def post(self) -> str:
        return "ran"


class Service:
    def order(self) -> str:
        return "ran"


class TestWhatCannotBeDecorated:
    @pytest.mark.parametrize(
        ("target", "message"),
        [
            pytest.param(Orders, r"class Orders.*decorators = \[idempotent\]", id="class of views"),
            pytest.param(Service, "class Service", id="class"),
            pytest.param(
                Blueprint("shop", "shop"),
                r"'shop'.*idempotent\.protect\(blueprint\)",
                id="blueprint",
            ),
            pytest.param(Flask("shop"), r"Idempotent\(app\) protects every view", id="application"),
            pytest.param(
                staticmethod(lambda: "ran"),
                "@idempotent is above @staticmethod.*put it below",
                id="staticmethod",
            ),
            pytest.param(
                classmethod(lambda cls: "ran"),
                "@idempotent is above @classmethod.*put it below",
                id="classmethod",
            ),
            pytest.param(240, r"alone or as in @idempotent\(expire=240\), not on 240", id="value"),
            pytest.param("view", "not on 'view'", id="name"),
            pytest.param(
                idempotent.exempt(lambda: "ran"), "both decorated .* and exempt", id="exempt view"
            ),
        ],
    )
    @pytest.mark.parametrize(
        "decorate", [idempotent, idempotent(expire=5)], ids=["bare", "keywords"]
    )
    def test_says_what_to_do(self, decorate: Any, target: object, message: str) -> None:
        """What cannot be decorated is an error where it stands, with keywords and without."""
        with pytest.raises(SettingsError, match=message):
            decorate(target)

    def test_keywords_beside_a_view(self) -> None:
        """Keywords are checked where a view stands beside them, too."""
        with pytest.raises(SettingsError, match="expires= is not a setting"):
            idempotent(lambda: "ran", expires=5)  # type: ignore[call-overload]


class TestWhatCannotBeExempt:
    @pytest.mark.parametrize(
        ("target", "message"),
        [
            pytest.param(
                Service, "takes a view, a class derived from flask.views.View", id="class"
            ),
            pytest.param(Flask("shop"), "not <Flask 'shop'>", id="application"),
            pytest.param(Service().order, r"the definition of Service\.order", id="bound method"),
            pytest.param(
                staticmethod(lambda: "ran"),
                r"@idempotent\.exempt is above @staticmethod",
                id="staticmethod",
            ),
            pytest.param(240, "not 240", id="value"),
            pytest.param(len, "not <built-in function len>", id="builtin"),
            pytest.param(idempotent(lambda: "ran"), "both decorated .* and exempt", id="decorated"),
            pytest.param(
                logged(idempotent(lambda: "ran")),
                "both decorated .* and exempt",
                id="decorated below",
            ),
            pytest.param(
                idempotent.protect(Blueprint("shop", "shop")),
                "'shop' was exempted before, or",
                id="blueprint",
            ),
        ],
    )
    def test_says_what_to_do(self, target: Any, message: str) -> None:
        """What cannot be exempt is an error where it stands."""
        with pytest.raises(SettingsError, match=message):
            idempotent.exempt(target)

    def test_twice(self) -> None:
        """To exempt something a second time changes nothing."""
        for target in (lambda: "ran", Blueprint("shop", "shop"), type("Own", (View,), {})):
            assert idempotent.exempt(idempotent.exempt(target)) is target


class TestWhatCannotBeProtected:
    @pytest.mark.parametrize(
        "target",
        [Orders, lambda: "ran", Flask("shop"), "shop", None],
        ids=lambda x: type(x).__name__,
    )
    def test_not_a_blueprint(self, target: Any) -> None:
        """``protect`` takes blueprints, and says what there is for views and applications."""
        with pytest.raises(
            SettingsError, match=r"takes a blueprint, not .*@idempotent.*Idempotent"
        ):
            idempotent.protect(target)

    def test_wrong_keyword(self) -> None:
        """Its keywords are checked where they stand."""
        with pytest.raises(SettingsError, match="expires= is not a setting"):
            idempotent.protect(Blueprint("shop", "shop"), expires=5)  # type: ignore[call-arg]

    def test_too_late(self, make_app: MakeApp) -> None:
        """A blueprint that was registered cannot be protected any more."""
        shop = Blueprint("shop", "shop")
        make_app().register_blueprint(shop)
        with pytest.raises(SettingsError, match="too late for the blueprint 'shop'"):
            idempotent.protect(shop)

    def test_twice(self, make_app: MakeApp) -> None:
        """The same again changes nothing, even late; other keywords and an exemption are errors."""
        shop = Blueprint("shop", "shop")
        for _ in "12":
            assert idempotent.protect(shop, expire=5) is shop
            make_app(wide=False).register_blueprint(shop)
        with pytest.raises(SettingsError, match="'shop' was exempted before, or protected"):
            idempotent.protect(shop, expire=6)
        with pytest.raises(SettingsError, match="'other' was exempted before, or protected"):
            idempotent.protect(idempotent.exempt(Blueprint("other", "other")))
