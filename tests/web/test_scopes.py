"""Scopes: two callers never share a key."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from flask import Flask, request, session
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from hypothesis import given
from hypothesis import strategies as st

from flask_idempotent.settings import resolve
from flask_idempotent.web.scopes import default_scope, scope_of
from tests.conftest import MakeApp
from tests.support.flask_versions import call_in_context

BASIC_ADA, BASIC_BOB = "Basic YWRhOjE=", "Basic Ym9iOjE="


@pytest.fixture(name="app")
def _app() -> Flask:
    app = Flask("scopes")
    app.secret_key = "only for tests"
    return app


SETTINGS = resolve({})


def scope_with(
    app: Flask,
    header: str | None = None,
    user: object = None,
    api_key: str | None = None,
    user_id: object = None,
) -> str | None:
    headers = {"Authorization": header, "X-API-Key": api_key}
    entries = {"_user_id": user, "user_id": user_id}
    given = {name: value for name, value in headers.items() if value is not None}
    with app.test_request_context(headers=given):
        for name, value in entries.items():
            if value is not None:
                session[name] = value
        return default_scope(request, SETTINGS)


class TestDefaultScope:
    def test_f6_anonymous(self, app: Flask) -> None:
        """Without credentials and user there is the one shared scope."""
        assert scope_with(app) is None

    def test_f6_each_combination_is_its_own(self, app: Flask) -> None:
        """Header and user both count, and neither can look like the other."""
        combinations = [
            (None, None), (BASIC_ADA, None), (None, "1"), (BASIC_ADA, "1"), (BASIC_ADA, "2"),
            (BASIC_BOB, "1"), ("", None), (None, ""), ("", ""), ("1", None), ("-", None),
            (None, "-"), ("a-", None), ("a", "-"), ("1:a", None), ("", "1:a"),
        ]  # fmt: skip
        scopes = [scope_with(app, header, user) for header, user in combinations]
        assert len(set(scopes)) == len(combinations)

    @given(*[st.tuples(*[st.none() | st.text("a1:", max_size=3)] * 4)] * 2)
    def test_f7_no_collision(
        self, one: tuple[str | None, ...], other: tuple[str | None, ...]
    ) -> None:
        """Two callers have one scope only if headers and users are equal."""
        app = Flask("scopes")
        app.secret_key = "only for tests"
        assert (scope_with(app, *one) == scope_with(app, *other)) is (one == other)

    def test_user_of_another_type(self, app: Flask) -> None:
        """A user's id need not be text."""
        assert scope_with(app, user=5) == scope_with(app, user="5")
        assert scope_with(app, user_id=5) == scope_with(app, user_id="5")

    def test_f11_each_input_is_its_own(self, app: Flask) -> None:
        """F11: headers and the two users are distinguished, though their values are the same."""
        names = ("header", "user", "api_key", "user_id")
        assert len({scope_with(app, **{name: "1"}) for name in names}) == len(names)

    def test_f11_headers_are_a_setting(self, app: Flask) -> None:
        """F11: the headers are those of IDEMPOTENT_SCOPE_HEADERS, in any case and order; one
        more changes no scope that lacks it."""

        def of(names: list[str], **headers: str) -> str | None:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            settings = resolve({"IDEMPOTENT_SCOPE_HEADERS": names})
            with app.test_request_context(headers=sent):
                return default_scope(request, settings)

        both = {"X_Tenant": "acme", "Authorization": BASIC_ADA}
        assert of([], **both) is None
        assert of(["X-Tenant"], **both) != of(["X-Tenant"], X_Tenant="other")
        assert of(["x-tenant"], **both) == of(["X-TENANT"], X_Tenant="acme")
        assert of(["X-Tenant", "Authorization"], **both) == of(
            ["Authorization", "X-Tenant"], **both
        )
        assert of(["Authorization"], Authorization="a") == of(
            ["X-Tenant", "Authorization"], Authorization="a"
        )

    def test_f6_without_sessions(self) -> None:
        """An application without a secret key has no users, and no error comes of it."""
        assert scope_with(Flask("scopes")) is None

    def test_f6_session_of_another_kind(self) -> None:
        """Any session that keeps Flask's contract will do."""

        class Plain(dict[str, Any], SessionMixin):
            accessed = False

        class Interface(SecureCookieSessionInterface):
            def open_session(self, app: Any, request: Any) -> Any:
                return plain

        app, plain = Flask("scopes"), Plain(_user_id="7")
        app.session_interface = Interface()
        with app.test_request_context():
            assert default_scope(request, SETTINGS) == "16:session _user_id1:7"
            assert not plain.accessed

    @pytest.mark.parametrize("accessed", [False, True])
    def test_f6_reading_leaves_no_trace(self, app: Flask, accessed: bool) -> None:
        """Looking at the session does not mark it as accessed; one that was, stays so."""
        with app.test_request_context() as context:
            if accessed:
                session.get("anything")
            assert default_scope(request, SETTINGS) is None
            answer = call_in_context(app, "process_response", context, app.response_class())
            assert answer.headers.get("Vary") == ("Cookie" if accessed else None)


class TestScopeOf:
    @pytest.mark.parametrize("value", ["", "account 7", b"\xff", None])
    def test_f6_function_replaces_the_default(self, app: Flask, value: object) -> None:
        """The application's function alone says who a key belongs to."""
        with app.test_request_context(headers={"Authorization": BASIC_ADA}):
            assert scope_of(request, resolve({}, {"scope": lambda _: value})) == value

    @pytest.mark.parametrize("value", [0, 7, UUID("8e03978e-40d5-43dd-bc93-6894a57f9324")])
    def test_k9_numbers_and_uuids(self, app: Flask, value: object) -> None:
        """K9: an int or a UUID, as databases have them, stands for its text."""
        with app.test_request_context():
            assert scope_of(request, resolve({}, {"scope": lambda _: value})) == str(value)

    @pytest.mark.parametrize("value", [5.0, True, ["a"], ("a",), {"a": 1}, object()])
    def test_f6_wrong_type(self, app: Flask, value: object) -> None:
        """A function that returns anything else stops the request."""
        settings = resolve({}, {"scope": lambda _: value})
        with (
            app.test_request_context(),
            pytest.raises(TypeError, match=f"int, UUID or None, not {type(value).__name__}"),
        ):
            scope_of(request, settings)

    def test_f6_error(self, app: Flask) -> None:
        """A function that raises stops the request; there is no other scope to fall back to."""

        def fail(_: Any) -> str:
            raise LookupError("no such account")

        with app.test_request_context(), pytest.raises(LookupError):
            scope_of(request, resolve({}, {"scope": fail}))


class TestOnFlask:
    def counting(self, app: Flask) -> list[str]:
        runs: list[str] = []

        @app.post("/")
        def view() -> str:
            runs.append(request.headers.get("Authorization", ""))
            return f"for {runs[-1]} ({len(runs)})"

        return runs

    def test_f6_two_callers(self, make_app: MakeApp) -> None:
        """Two callers with one key and body are two operations; each gets its own response."""
        app = make_app()
        runs = self.counting(app)
        client = app.test_client()
        answers = {
            caller: [
                client.post("/", headers={"Idempotency-Key": "k", "Authorization": caller}).text
                for _ in range(2)
            ]
            for caller in (BASIC_ADA, BASIC_BOB)
        }
        assert runs == [BASIC_ADA, BASIC_BOB]
        assert answers == {
            BASIC_ADA: [f"for {BASIC_ADA} (1)"] * 2,
            BASIC_BOB: [f"for {BASIC_BOB} (2)"] * 2,
        }

    @pytest.mark.parametrize("entry", ["_user_id", "user_id"])
    def test_f6_f11_users_of_the_session(self, make_app: MakeApp, entry: str) -> None:
        """So are two users who are logged in, with Flask-Login or as in Flask's tutorial."""
        app = make_app()
        runs = self.counting(app)
        for user in ("1", "2", "1"):
            client = app.test_client()
            with client.session_transaction() as stored:
                stored[entry] = user
            client.post("/", headers={"Idempotency-Key": "k"})
        assert len(runs) == 2

    @pytest.mark.parametrize("name", ["Authorization", "X-API-Key"])
    def test_f11_headers(self, make_app: MakeApp, name: str) -> None:
        """F11: so are two callers who differ in a header."""
        app = make_app()
        runs = self.counting(app)
        for caller in ("ada", "bob", "ada"):
            app.test_client().post("/", headers={"Idempotency-Key": "k", name: caller})
        assert len(runs) == 2

    @pytest.mark.parametrize("keys", [1, 2])
    def test_f6_no_vary_cookie(self, make_app: MakeApp, keys: int) -> None:
        """Neither a first answer nor a replay gains ``Vary: Cookie``."""
        app = make_app()
        self.counting(app)
        client = app.test_client()
        with client.session_transaction() as stored:
            stored["_user_id"] = "1"
        for number in range(2):
            answer = client.post("/", headers={"Idempotency-Key": f"k{number % keys}"})
            assert answer.status_code == 200
            assert "Vary" not in answer.headers
            assert "Set-Cookie" not in answer.headers

    @pytest.mark.parametrize(
        "scope",
        [
            pytest.param(lambda _: 1 / 0, id="F6-raises"),
            pytest.param(lambda _: 5.0, id="F6-wrong-type"),
        ],
    )
    def test_f6_failing_scope_stops_the_request(self, make_app: MakeApp, scope: Any) -> None:
        """A scope function that raises or returns a wrong type is a 500; the view does not run."""
        app = make_app(scope=scope)
        runs = self.counting(app)
        assert app.test_client().post("/", headers={"Idempotency-Key": "k"}).status_code == 500
        assert runs == []
        assert app.test_client().post("/").status_code == 200
