"""Flask-Login: a replay is for the user who made the request, and for nobody else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from flask_login import (
    LoginManager,
    UserMixin,
    current_user,
    login_required,
    login_user,
    logout_user,
)

from flask_idempotent import idempotent
from tests.neighbours.client import replayed, send, summary
from tests.support.clients import WayIn
from tests.support.faulty_store import FaultyStore

# Flask-Login 0.6.3 reckons with ``utcnow`` when it sets its remember cookie.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")


class User(UserMixin):
    """A user who has an id and nothing else."""

    def __init__(self, name: str) -> None:
        self.id = name


def with_login(app: Flask) -> Flask:
    """Add Flask-Login, and addresses to log in and out."""
    manager = LoginManager(app)
    manager.user_loader(User)

    @app.post("/login/<name>")
    @idempotent.exempt
    def login(name: str) -> str:
        login_user(User(name))
        return name

    @app.post("/remember/<name>")
    @idempotent.exempt
    def remember(name: str) -> str:
        login_user(User(name), remember=True)
        return name

    @app.post("/logout")
    @idempotent.exempt
    def logout() -> str:
        logout_user()
        return ""

    return app


def shop(way: WayIn, **options: Any) -> Flask:
    """An application whose view says which user it served, and in which run."""
    app, runs = with_login(way.app(**options)), count(1)

    @app.post("/")
    @login_required
    @way
    def order() -> str:
        return f"{current_user.id}'s run {next(runs)}"

    return app


def logged_in(app: Flask, name: str, how: str = "login") -> FlaskClient:
    client = app.test_client()
    assert client.post(f"/{how}/{name}").text == name
    return client


def test_f6_replay_for_the_user_who_asked(way: WayIn) -> None:
    """F6: a user's retry is replayed, from another session of that user too."""
    app = shop(way)
    alice = logged_in(app, "alice")
    assert summary(send(alice)) == (200, "alice's run 1", False)
    assert summary(send(alice)) == (200, "alice's run 1", True)
    assert summary(send(logged_in(app, "alice"))) == (200, "alice's run 1", True)


def test_f6_another_user_runs_on_their_own(way: WayIn) -> None:
    """F6: another user with the same key and body has an operation of their own."""
    app = shop(way)
    alice, bob = logged_in(app, "alice"), logged_in(app, "bob")
    assert [summary(send(client)) for client in (alice, bob, bob, alice)] == [
        (200, "alice's run 1", False),
        (200, "bob's run 2", False),
        (200, "bob's run 2", True),
        (200, "alice's run 1", True),
    ]


def test_f6_after_logout(way: WayIn) -> None:
    """F6: after logout a retry gets 401, never the stored response; after login the replay."""
    app = shop(way)
    alice = logged_in(app, "alice")
    send(alice)
    alice.post("/logout")
    for _ in range(2):
        answer = send(alice)
        assert answer.status_code == 401
        assert "alice" not in answer.text
    alice.post("/login/alice")
    assert summary(send(alice)) == (200, "alice's run 1", True)


def test_f6_next_user_of_the_browser(way: WayIn) -> None:
    """F6: the next user who logs in on a browser does not get the former user's response."""
    app = shop(way)
    browser = logged_in(app, "alice")
    send(browser)
    browser.post("/logout")
    browser.post("/login/bob")
    assert summary(send(browser)) == (200, "bob's run 2", False)


def test_stranger_spends_nobodys_key(way: WayIn) -> None:
    """A 401 for a stranger leaves the key new for the user who logs in."""
    app = shop(way)
    client = app.test_client()
    assert send(client).status_code == 401
    client.post("/login/alice")
    assert summary(send(client)) == (200, "alice's run 1", False)


def test_c3_login_required_above_never_claims(make_app: Callable[..., Flask]) -> None:
    """C3: what ``login_required`` refuses above ``@idempotent`` never reaches the store."""
    store = FaultyStore()
    app = shop(WayIn("both", make_app), store=store)
    assert send(app.test_client()).status_code == 401
    assert store.calls == []


def test_f6_no_vary_added(way: WayIn) -> None:
    """F6: looking for the user adds no ``Vary: Cookie``, on a first answer and on a replay."""
    app = with_login(way.app())

    @app.post("/public")
    @way
    def public() -> str:
        return "for everybody"

    # Flask-Login looks into the session after each request, for its remember cookie.
    app.after_request_funcs.clear()
    alice = logged_in(app, "alice")
    for again in (False, True):
        answer = send(alice, "/public")
        assert replayed(answer) == again
        assert "Vary" not in answer.headers
        assert "Set-Cookie" not in answer.headers


def test_f6_remembered_users(way: WayIn) -> None:
    """F6: two users with the same key differ by their remember cookies alone."""
    app = shop(way)
    alice, bob = (logged_in(app, name, "remember") for name in ("alice", "bob"))
    for client in (alice, bob):
        client.delete_cookie("session")
    assert summary(send(alice)) == (200, "alice's run 1", False)
    assert summary(send(bob)) == (200, "bob's run 2", False)


def test_f6_remembered_user_gets_a_replay(way: WayIn) -> None:
    """F6: a user whom the remember cookie names is the same one once the session does."""
    app = shop(way)
    alice = logged_in(app, "alice", "remember")
    alice.delete_cookie("session")
    answers = [summary(send(alice)) for _ in range(2)]
    assert alice.get_cookie("session") is not None
    assert answers == [(200, "alice's run 1", False), (200, "alice's run 1", True)]


@pytest.mark.parametrize("cookie", ["alice|forged", "alice|\u00e9", "alice"])
def test_f6_forged_remember_cookie(way: WayIn, cookie: str) -> None:
    """F6: a remember cookie that Flask-Login did not sign names nobody."""
    app = with_login(way.app())
    runs = count(1)

    @app.post("/public")
    @way
    def public() -> str:
        return f"run {next(runs)}"

    send(logged_in(app, "alice"), "/public")
    forger = app.test_client()
    forger.set_cookie("remember_token", cookie)
    assert summary(send(forger, "/public")) == (200, "run 2", False)


def test_f6_forgotten_user(way: WayIn) -> None:
    """F6: a remember cookie that Flask-Login is about to delete names nobody any more."""
    app, runs = with_login(way.app()), count(1)

    @app.post("/public")
    @way
    def public() -> str:
        return f"run {next(runs)}"

    alice = logged_in(app, "alice", "remember")
    alice.delete_cookie("session")
    send(alice, "/public")
    with alice.session_transaction() as transaction:
        transaction["_remember"] = "clear"
    assert summary(send(alice, "/public")) == (200, "run 2", False)


def test_strong_session_protection(make_app: Callable[..., Flask]) -> None:
    """A check in ``before_request`` stands before replays: a stolen session gets 401."""
    app = make_app()
    runs = count(1)
    app.post("/")(lambda: f"run {next(runs)}")
    with_login(app)
    app.config["SESSION_PROTECTION"] = "strong"

    @app.before_request
    def check() -> tuple[str, int] | None:
        public = request.endpoint == "login"
        return None if public or current_user.is_authenticated else ("", 401)

    alice = logged_in(app, "alice")
    assert summary(send(alice)) == (200, "run 1", False)
    assert send(alice, headers={"User-Agent": "another machine's"}).status_code == 401


def test_f6_scope_of_a_request_loader(way: WayIn) -> None:
    """F6: users whom a header names have scopes of their own where the application sets one."""
    app = way.app(scope=lambda request: current_user.get_id())
    runs = count(1)
    manager = LoginManager(app)
    manager.request_loader(lambda request: User(request.headers["X-Api-Key"]))

    @app.post("/")
    @login_required
    @way
    def order() -> str:
        return f"{current_user.id}'s run {next(runs)}"

    client = app.test_client()
    answers = [summary(send(client, headers={"X-Api-Key": name})) for name in ("a", "b", "a")]
    assert answers == [
        (200, "a's run 1", False),
        (200, "b's run 2", False),
        (200, "a's run 1", True),
    ]
