"""Where the handler stands in a request, and what it reads of it before the view."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import Any

import pytest
from flask import (
    Blueprint,
    Request,
    Response,
    redirect,
    request,
    session,
)
from flask_login import (  # type: ignore[import-untyped]
    LoginManager,
    UserMixin,
    login_user,
    logout_user,
)
from werkzeug.test import TestResponse

from tests.support.clients import WayIn, post, problem, recorded
from tests.support.faulty_store import FaultyStore
from tests.support.views import counting

Background = Callable[..., Future[TestResponse]]


class TestBody:
    @pytest.mark.parametrize("form", [False, True])
    def test_w4_incomplete(self, way: WayIn, form: bool) -> None:
        """W4: a body shorter than announced gets 400, claims nothing, and leaves the key free."""
        store = FaultyStore()
        app = way.app(store=store)
        counting(app, way)
        sent: dict[str, Any] = {
            "data": b"item=book",
            "content_type": "application/x-www-form-urlencoded" if form else "text/plain",
        }
        with recorded(app) as events:
            answer = post(app, environ_overrides={"CONTENT_LENGTH": "100"}, **sent)
        assert problem(answer) == (400, "body-incomplete")
        assert answer.json["idempotency_key"] == "key-one"
        assert [data["problem"] for _, data in events] == ["body-incomplete"]
        assert store.calls == []
        assert post(app, **sent).text == "run 1"

    @pytest.mark.parametrize("limited", ["config", "request", "class"])
    def test_w4_too_large(self, way: WayIn, limited: str) -> None:
        """W4: a body over the application's limit gets Flask's 413, and nothing is claimed."""
        store = FaultyStore()
        app = way.app(store=store, config={"MAX_CONTENT_LENGTH": None})
        counting(app, way)
        if limited == "config":
            app.config["MAX_CONTENT_LENGTH"] = 10
        elif limited == "class":
            app.request_class = type("Small", (Request,), {"max_content_length": 10})
        elif Request.max_content_length.fset is None:
            pytest.skip("Flask 3.0 has no limit for a single request")
        else:
            app.before_request(lambda: setattr(request, "max_content_length", 10))
        assert post(app, data=b"12345678901").status_code == 413
        assert store.calls == []
        assert post(app, data=b"1234567890").text == "run 1"

    def test_form_without_a_key(self, way: WayIn) -> None:
        """F3: a form that has no key reaches its view untouched."""
        app = way.app()

        @app.post("/")
        @way
        def view() -> dict[str, str]:
            return request.form.to_dict()

        assert post(app, None, data={"item": "book"}).json == {"item": "book"}

    def test_failing_fingerprint(self, way: WayIn) -> None:
        """A fingerprint function that fails stops the request before anything is claimed."""
        store = FaultyStore()
        app = way.app(store=store, fingerprint=lambda request: 1 / 0)
        counting(app, way)
        assert post(app).status_code == 500
        assert store.calls == []


class TestScope:
    def test_f6_two_callers(self, way: WayIn) -> None:
        """F6: two callers with one key and body are two operations, each with its response."""
        app = way.app()
        counting(app, way)
        callers = [{"Authorization": "Bearer ada"}, {"Authorization": "Bearer bob"}, {}]
        for _ in range(2):
            answers = [post(app, headers=caller).text for caller in callers]
            assert answers == ["run 1", "run 2", "run 3"]

    def test_f6_flask_login(self, way: WayIn) -> None:
        """F6: who is logged in with Flask-Login has keys of their own, before and after logout."""
        app = way.app()
        manager = LoginManager(app)
        users = {name: type(name, (UserMixin,), {"id": name})() for name in ("ada", "bob")}
        manager.user_loader(users.get)
        app.add_url_rule("/in/<name>", "in", lambda name: str(login_user(users[name])))
        app.add_url_rule("/out", "out", lambda: str(logout_user()))
        counting(app, way)
        client = app.test_client()

        def send() -> str:
            return client.post("/", headers={"Idempotency-Key": "key-one"}).text

        seen = [send()]
        for path in ("/in/ada", "/out", "/in/bob", "/out", "/in/ada"):
            client.get(path)
            seen.append(send())
        assert seen == ["run 1", "run 2", "run 1", "run 3", "run 1", "run 2"]

    def test_f6_no_vary(self, way: WayIn) -> None:
        """F6: looking for a login does not mark the session as used."""
        app = way.app()
        counting(app, way)
        assert all("Vary" not in post(app).headers for _ in range(2))

    def test_f6_own_scope(self, way: WayIn) -> None:
        """F6: a scope function replaces the default: the account, not the token, is the caller."""
        app = way.app(scope=lambda request: request.headers["X-Account"])
        counting(app, way)
        sent = [("1", "old"), ("1", "new"), ("2", "new")]
        answers = [
            post(app, headers={"X-Account": account, "Authorization": token}).text
            for account, token in sent
        ]
        assert answers == ["run 1", "run 1", "run 2"]

    @pytest.mark.parametrize("result", ["raises", 7.5])
    def test_f6_failing_scope(self, way: WayIn, result: object) -> None:
        """F6: a scope function that fails stops the request, it never means a shared scope."""

        def scope(request: object) -> Any:
            if result == "raises":
                raise LookupError
            return result

        store = FaultyStore()
        app = way.app(store=store, scope=scope)
        counting(app, way)
        assert post(app).status_code == 500
        assert store.calls == []


class TestPlaceInTheRequest:
    def test_authentication_precedes_a_replay(self, way: WayIn) -> None:
        """What ``before_request`` refuses never sees a replay, and is not stored (C3)."""
        app, allowed = way.app(), [False]

        @app.before_request
        def authenticate() -> tuple[str, int] | None:
            return None if allowed[0] else ("who are you?", 401)

        counting(app, way)
        for permission, expected in ((False, 401), (True, 200), (False, 401), (True, 200)):
            allowed[0] = permission
            answer = post(app)
            assert answer.status_code == expected
        assert answer.text == "run 1"

    def test_blueprints_before_request_precedes_a_replay(self, way: WayIn) -> None:
        """A blueprint's ``before_request`` comes before the check as well."""
        app, allowed = way.app(), [True]
        blueprint = Blueprint("shop", "shop")
        blueprint.before_request(lambda: None if allowed[0] else ("no", 403))

        @blueprint.post("/")
        @way
        def view() -> str:
            return "run"

        app.register_blueprint(blueprint)
        assert post(app).status_code == 200
        allowed[0] = False
        assert post(app).status_code == 403

    @pytest.mark.parametrize("outcome", ["first", "replay", "E3-reuse"])
    def test_after_request_and_teardown_run(self, way: WayIn, outcome: str) -> None:
        """``after_request`` and teardown run once for every answer, replays and problems too."""
        app, ended = way.app(), []

        @app.after_request
        def sign(response: Response) -> Response:
            response.headers["X-Signed"] = "yes"
            return response

        app.teardown_request(lambda error: ended.append(error))
        counting(app, way)
        if outcome != "first":
            post(app)
        answer = post(app, data=b"other" if outcome == "E3-reuse" else b"")
        assert answer.headers.getlist("X-Signed") == ["yes"]
        assert len(ended) == (1 if outcome == "first" else 2)

    def test_r4_captured_before_after_request(self, way: WayIn) -> None:
        """R4: what ``after_request`` does to a response is done again to its replay, not twice."""
        app = way.app()

        @app.after_request
        def wrap(response: Response) -> Response:
            encoding = request.headers["Accept-Encoding"]
            response.data = f"{encoding}({response.get_data(as_text=True)})"
            response.headers["Content-Encoding"] = encoding
            return response

        counting(app, way)
        answers = [post(app, headers={"Accept-Encoding": name}) for name in ("gzip", "br")]
        assert [answer.text for answer in answers] == ["gzip(run 1)", "br(run 1)"]
        assert answers[1].headers.getlist("Content-Encoding") == ["br"]

    def test_session_saving(self, way: WayIn) -> None:
        """The first answer saves the session; a replay repeats no cookie, but its request's own."""
        app = way.app()

        @app.before_request
        def visit() -> None:
            if "visit" in request.headers:
                session["visit"] = True

        @app.post("/")
        @way
        def view() -> str:
            session["ordered"] = True
            return "done"

        assert "Set-Cookie" in post(app).headers
        assert "Set-Cookie" not in post(app).headers
        assert "Set-Cookie" in post(app, headers={"visit": "1"}).headers

    def test_r5_redirect_after_a_form(self, way: WayIn) -> None:
        """R5: a form sent twice is led to the same place twice."""
        app, orders = way.app(), count(7)

        @app.post("/")
        @way
        def view() -> Any:
            return redirect(f"/orders/{next(orders)}", 303)

        form = {"__idempotent_key": "key-one", "item": "book"}
        answers = [post(app, None, data=form) for _ in range(2)]
        assert [(a.status_code, a.location) for a in answers] == [(303, "/orders/7")] * 2

    def test_f3_view_sees_the_request_untouched(self, way: WayIn) -> None:
        """F3: form and file are there for the view."""
        app = way.app()

        @app.post("/")
        @way
        def view() -> dict[str, str]:
            return {"field": request.form["a"], "file": request.files["f"].read().decode()}

        data = {"__idempotent_key": "key-one", "a": "1", "f": (io.BytesIO(b"content"), "f.txt")}
        assert post(app, None, data=data).json == {"field": "1", "file": "content"}
