"""Placement: a decorator that protects nothing is an error that says what to do."""

from __future__ import annotations

import gc
from itertools import count
from typing import Any

import pytest
from flask import Blueprint, Flask, current_app
from flask.views import MethodView
from werkzeug.local import LocalProxy

from flask_idempotent import Idempotent, SettingsError, idempotent
from flask_idempotent.web.first_requests import FirstRequests
from flask_idempotent.web.placement import misplaced
from tests.conftest import MakeApp
from tests.support.clients import post
from tests.support.views import logged


@pytest.fixture(params=[False, True], ids=["alone", "below the extension"])
def app(request: pytest.FixtureRequest, make_app: MakeApp) -> Flask:
    return make_app(wide=request.param, config={"PROPAGATE_EXCEPTIONS": True})


class TestAboveTheRoute:
    """``@idempotent`` above ``@app.post``: Flask has registered the function below it."""

    def test_is_an_error_at_every_request(self, app: Flask) -> None:
        """Each request fails, and the error names view and route and says what to do."""

        @idempotent
        @app.post("/orders/<int:number>")
        def create_order(number: int) -> str:
            return "ran"

        message = (
            r"protects nothing on tests\.web\.test_placement\.\S+\.create_order "
            r"\(POST /orders/<int:number>\).* Put @idempotent below @app\.post"
        )
        for path in ("/orders/1", "/orders/1", "/elsewhere"):
            with pytest.raises(SettingsError, match=message):
                post(app, path=path)

    def test_one_of_several_views(self, app: Flask) -> None:
        """Views that are decorated as they should be do not hide one that is not."""

        @app.post("/right")
        @idempotent
        def right() -> str:
            return "ran"

        @idempotent(expire=5)
        @app.post("/wrong")
        @logged
        def wrong() -> str:
            return "ran"

        with pytest.raises(SettingsError, match=r"wrong \(POST /wrong\)") as caught:
            post(app, path="/right")
        assert "/right" not in str(caught.value)

    def test_of_a_blueprint(self, app: Flask) -> None:
        """It is the same with the routes of a blueprint."""
        shop = Blueprint("shop", __name__, url_prefix="/shop")

        @idempotent
        @shop.route("/orders", methods=["POST", "PUT"])
        def create() -> str:
            return "ran"

        app.register_blueprint(shop)
        with pytest.raises(SettingsError, match=r"create \(POST/PUT /shop/orders\)"):
            post(app, path="/shop/orders")

    def test_of_a_class(self, app: Flask) -> None:
        """It is the same with what ``as_view`` has made."""

        class Orders(MethodView):
            def post(self) -> str:
                return "ran"

        view = Orders.as_view("orders")
        app.add_url_rule("/orders", view_func=view)
        idempotent(view)
        with pytest.raises(SettingsError, match=r"Orders \(POST /orders\)"):
            post(app, path="/orders")

    def test_above_and_below(self, app: Flask) -> None:
        """Of two decorators on one view the one above the route is reported."""

        @idempotent(expire=86400)
        @app.post("/")
        @idempotent
        def view() -> str:
            return "ran"

        with pytest.raises(SettingsError, match=r"view \(POST /\)"):
            post(app)

    def test_function_that_nobody_keeps(self, make_app: MakeApp) -> None:
        """It is found in a factory too, where nobody keeps what the decorator made."""

        def create_app() -> Flask:
            app = make_app(wide=False, config={"PROPAGATE_EXCEPTIONS": True})

            @idempotent
            @app.post("/")
            def view() -> str:
                return "ran"

            return app

        app = create_app()
        gc.collect()
        # Another application comes first, which has nothing to do with it.
        assert post(make_app(wide=False)).status_code == 404
        with pytest.raises(SettingsError, match="protects nothing"):
            post(app)

    def test_error_handler_of_the_application(self, make_app: MakeApp) -> None:
        """An error handler may word it: the view does not run."""
        app, runs = make_app(wide=False), count(1)
        app.register_error_handler(SettingsError, lambda error: ("handled", 500))

        @idempotent
        @app.post("/")
        def view() -> str:
            return f"run {next(runs)}"

        assert [post(app).text for _ in "12"] == ["handled", "handled"]

    def test_meant_to_be_unprotected(self, make_app: MakeApp) -> None:
        """``exempt`` says that a route of a function that is decorated elsewhere is meant so."""

        def view() -> str:
            return "ran"

        idempotent(view)
        app = make_app(wide=False)
        app.add_url_rule("/", view_func=idempotent.exempt(view), methods=["POST"])
        assert post(app).text == "ran"

    def test_with_and_without(self, app: Flask) -> None:
        """A function that is a view with and without the decorator is meant to be both."""

        def view() -> str:
            return "ran"

        app.add_url_rule("/plain", "plain", view, methods=["POST"])
        app.add_url_rule("/safe", "safe", idempotent(view), methods=["POST"])
        app.add_url_rule("/other", "other", logged(view), methods=["POST"])
        assert [post(app, name, f"/{name}").text for name in ("plain", "safe")] == ["ran"] * 2

    @pytest.mark.parametrize("first", [0, 1], ids=["decorated first", "decorated last"])
    def test_another_application(self, make_app: MakeApp, first: int) -> None:
        """A function that one application has decorated may be another's as it is."""

        def view() -> str:
            return "ran"

        decorated, plain = make_app(wide=False), make_app()
        decorated.add_url_rule("/", "view", idempotent(view), methods=["POST"])
        plain.add_url_rule("/", "view", view, methods=["POST"])
        for app in ((decorated, plain), (plain, decorated))[first]:
            assert post(app).text == "ran"

    def test_proxies_are_left_alone(self, app: Flask) -> None:
        """Looking for other applications asks no proxy, which may raise outside its context."""

        def raising() -> Any:
            raise KeyError("an extension that is not set up")

        def above() -> str:
            return "ran"

        proxy = LocalProxy(raising)
        app.add_url_rule("/above", "above", above, methods=["POST"])
        idempotent(above)
        assert [view.routes for view in misplaced(app)] == ["POST /above"]
        del proxy

    def test_helper(self, app: Flask) -> None:
        """A decorated function that views call is not a view, and may be anywhere."""

        @idempotent
        def place() -> str:
            return "placed"

        class Shop:
            def order(self) -> str:
                return "ordered"

        order = idempotent(Shop().order)
        app.add_url_rule("/", "view", lambda: place(), methods=["POST"])
        app.add_url_rule("/other", "other", lambda: order(), methods=["POST"])
        assert [post(app, path, path).text for path in ("/", "/other")] == ["placed", "ordered"]

    def test_other_decorators(self, app: Flask) -> None:
        """Above and below the decorator others may stand."""
        app.add_url_rule("/", "view", logged(idempotent(logged(lambda: "ran"))), methods=["POST"])
        assert post(app).text == "ran"
        assert list(misplaced(app)) == []

    def test_other_applications(self, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
        """Many requests to one application do not keep the next one from being looked at."""
        monkeypatch.setattr(FirstRequests, "PATIENCE", 5)
        busy, wrong = make_app(wide=False), make_app(wide=True)
        wrong.config["PROPAGATE_EXCEPTIONS"] = True
        view = wrong.post("/")(lambda: "ran")
        idempotent(view)
        for _ in range(6):
            post(busy)
        with pytest.raises(SettingsError, match="protects nothing"):
            post(wrong)


class Orders(MethodView):
    def post(self) -> str:
        return "ran"


class TestExtension:
    def test_current_application(self, make_app: MakeApp) -> None:
        """``current_app`` stands for its application."""
        app = make_app(wide=False, config={"PROPAGATE_EXCEPTIONS": True})
        with app.app_context():
            Idempotent(current_app)  # type: ignore[arg-type]
        idempotent(app.post("/")(lambda: "ran"))
        with pytest.raises(SettingsError, match="protects nothing"):
            post(app)

    @pytest.mark.parametrize(
        "target",
        [Blueprint("shop", "shop"), lambda: "ran", "shop"],
        ids=["blueprint", "view", "name"],
    )
    def test_not_an_application(self, target: Any) -> None:
        """``Idempotent`` takes an application, and says what there is for the rest."""
        with pytest.raises(
            SettingsError, match=r"protects a Flask application, .*protect\(blueprint"
        ):
            Idempotent(target)
        with pytest.raises(SettingsError, match="protects a Flask application"):
            Idempotent().init_app(target)
