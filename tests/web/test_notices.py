"""Warnings that the log has once for each application."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from flask import Flask, session
from flask.views import MethodView

from flask_idempotent import Idempotent, idempotent
from tests.conftest import MakeApp
from tests.support.clients import post


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged at WARNING since the last call, without the warning about memory://."""

    def new_warnings() -> list[str]:
        lines = [r.message for r in caplog.records if r.levelno == logging.WARNING]
        caplog.clear()
        return [line for line in lines if "memory://" not in line]

    return new_warnings


Warnings = Callable[[], list[str]]


def plain() -> str:
    return "ran"


class TestCookies:
    def test_in_the_config(self, warnings: Warnings) -> None:
        """``keep_headers`` with Set-Cookie is warned of at the start, once."""
        app = Flask("tests")
        app.config.update(REDIS_URL="memory://", IDEMPOTENT_KEEP_HEADERS=["SET-COOKIE"])
        Idempotent(app)
        (line,) = warnings()
        assert "keep_headers has Set-Cookie: everybody who has a key gets the cookies" in line
        app.post("/")(idempotent(expire=5)(plain))
        assert post(app, None).text == "ran"
        assert warnings() == []

    def test_of_a_view(self, make_app: MakeApp, warnings: Warnings) -> None:
        """That of a view is warned of at its first request, once for the application."""
        app = make_app(wide=False)
        for path in ("/a", "/b"):
            view = idempotent(keep_headers=["set-cookie"])(plain)
            app.add_url_rule(path, path, view, methods=["POST"])
        assert warnings() == []
        for path in ("/a", "/b", "/a"):
            post(app, None, path)
        assert len(warnings()) == 1

    def test_login(self, make_app: MakeApp, warnings: Warnings) -> None:
        """``replay_session`` with what signs a user in is warned of, as cookies are."""
        make_app(config={"IDEMPOTENT_REPLAY_SESSION": ["_flashes", "user_id", "_user_id"]})
        (line,) = warnings()
        assert "replay_session names _user_id and user_id: everybody" in line

    def test_other_headers(self, make_app: MakeApp, warnings: Warnings) -> None:
        """Nothing is said of other headers."""
        post(make_app(keep_headers=["X-Request-Id"]))
        assert warnings() == []


class TestViews:
    @pytest.fixture(params=[True, False], ids=["app-wide", "decorated"])
    def app(self, make_app: MakeApp, request: pytest.FixtureRequest) -> Flask:
        return make_app(wide=request.param)

    def test_w1_get_alone(self, app: Flask, warnings: Warnings) -> None:
        """W1: a decorated view that takes GET alone is warned of at the first request, once."""
        app.get("/read")(idempotent(plain))
        app.post("/other", endpoint="other")(idempotent(plain))
        for _ in range(2):
            assert post(app, None, "/nowhere").status_code == 404
        (line,) = warnings()
        assert "@idempotent protects nothing at /read: GET is not tracked." in line
        assert "@idempotent(methods=['GET'])" in line

    def test_methods_of_a_class(self, app: Flask, warnings: Warnings) -> None:
        """A decorated method of a class counts alone, a decorated class as a whole."""

        class One(MethodView):
            @idempotent
            def get(self) -> str:
                return "ran"

            def post(self) -> str:
                return "ran"

        class Whole(MethodView):
            decorators = [idempotent]  # noqa: RUF012

            def get(self) -> str:
                return "ran"

            def post(self) -> str:
                return "ran"

        app.add_url_rule("/one", view_func=One.as_view("one"))
        app.add_url_rule("/whole", view_func=Whole.as_view("whole"))
        post(app, None, "/one")
        assert ["at /one: GET" in line for line in warnings()] == [True]

    def test_left_out_by_the_config(self, app: Flask, warnings: Warnings) -> None:
        """So is a view whose method the application's ``methods`` leave out."""
        app.config["IDEMPOTENT_METHODS"] = ["POST"]
        app.put("/put")(idempotent(plain))
        post(app, None, "/put", method="PUT")
        assert ["at /put: PUT" in line for line in warnings()] == [True]

    def test_nothing_to_warn_of(self, app: Flask, warnings: Warnings) -> None:
        """A view with another method, by one route or two, one that names GET and an exempt one
        are as they should be."""
        both = idempotent(plain)
        app.add_url_rule("/a", "a", idempotent(plain), methods=["GET", "POST"])
        app.add_url_rule("/b", "b", both)
        app.add_url_rule("/b", "c", both, methods=["POST"])
        app.add_url_rule("/d", "d", idempotent(methods=["GET"])(plain))
        app.add_url_rule("/e", "e", idempotent.exempt(lambda: "ran"))
        post(app, None, "/a")
        assert warnings() == []

    def test_wrong_settings(self, make_app: MakeApp, warnings: Warnings) -> None:
        """Settings that cannot be used are an error of the view that needs them alone."""
        app = make_app(wide=False, config={"IDEMPOTENT_EXPIRE": "long"})
        app.get("/read")(idempotent(plain))
        app.get("/free", endpoint="free")(plain)
        assert post(app, None, "/free", method="GET").text == "ran"
        assert post(app, None, "/read", method="GET").status_code == 500
        assert warnings() == []


class TestSessions:
    @pytest.fixture
    def app(self, make_app: MakeApp) -> Flask:
        app = make_app()

        @app.post("/fill/<path:names>")
        @idempotent.exempt
        def fill(names: str) -> str:
            session.update(dict.fromkeys(names.split("/"), "x"))
            return "filled"

        for path in ("/a", "/b"):
            app.add_url_rule(path, path, plain, methods=["POST"])
        app.add_url_rule("/own", "own", idempotent(scope=lambda _: None)(plain), methods=["POST"])
        return app

    def send(self, app: Flask, filled: str, *paths: str) -> None:
        client = app.test_client()
        client.post(f"/fill/{filled}")
        for path in paths:
            answer = client.post(path, headers={"Idempotency-Key": path[1:]})
            assert answer.status_code == 200

    def test_f11_once_for_each_route(self, app: Flask, warnings: Warnings) -> None:
        """F11: a session that may identify its user is warned of where no caller is seen, once."""
        self.send(app, "account/email", "/a", "/b", "/a")
        self.send(app, "cart", "/b")
        one, other = warnings()
        assert "sees no caller at /a, but the session has 'account', 'email'" in one
        assert "at /b" in other

    @pytest.mark.parametrize("entry", ["user_id", "_user_id"])
    def test_known_callers(self, app: Flask, warnings: Warnings, entry: str) -> None:
        """Nothing is logged where the default scope knows the caller."""
        self.send(app, f"{entry}/account", "/a")
        assert warnings() == []

    def test_entries_that_name_nobody(self, app: Flask, warnings: Warnings) -> None:
        """Nothing is logged of messages and CSRF tokens, and of an empty session."""
        self.send(app, "csrf_token/csrf/_flashes/_permanent", "/a")
        post(app, path="/a")
        assert warnings() == []

    def test_scope_function(self, app: Flask, warnings: Warnings) -> None:
        """A scope function has its own say, be it that nobody is known."""
        self.send(app, "account", "/own")
        assert warnings() == []
