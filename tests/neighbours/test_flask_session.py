"""Flask-Session: a session that lives in a server's store."""

from __future__ import annotations

from typing import Any

import pytest
from cachelib import SimpleCache
from flask import Flask, session
from flask_session import Session

from tests.neighbours.client import replayed, send, summary
from tests.support.clients import WayIn


def with_sessions(way: WayIn, **config: Any) -> tuple[Flask, SimpleCache]:
    """An application whose sessions lie in a cache."""
    cache = SimpleCache()
    app = way.app(config={"SESSION_TYPE": "cachelib", "SESSION_CACHELIB": cache, **config})
    Session(app)

    @app.post("/enter/<name>")
    def enter(name: str) -> str:
        session["_user_id"] = name
        return name

    return app, cache


@pytest.mark.parametrize("key", [None, "key-one"])
def test_f6_reading_the_user_leaves_the_session_alone(way: WayIn, key: str | None) -> None:
    """F6: looking for the user marks no session as used: no Vary, no cookie, nothing saved."""
    app, cache = with_sessions(way, SESSION_REFRESH_EACH_REQUEST=False)
    app.post("/")(way(lambda: "for everybody"))
    client = app.test_client()
    client.post("/enter/alice")
    saved = dict(cache._cache)
    for number in range(2):
        answer = send(client, key=key)
        assert replayed(answer) == bool(number and key)
        assert "Vary" not in answer.headers
        assert "Set-Cookie" not in answer.headers
    assert cache._cache == saved


def test_f6_users_are_told_apart(way: WayIn) -> None:
    """F6: the user is found in a server-side session as in a cookie."""
    app, _ = with_sessions(way)
    app.post("/")(way(lambda: str(session["_user_id"])))
    for name in ("alice", "bob"):
        client = app.test_client()
        client.post(f"/enter/{name}")
        assert [summary(send(client)) for _ in range(2)] == [(200, name, False), (200, name, True)]


def test_session_is_saved_on_replays(way: WayIn) -> None:
    """What ``before_request`` writes to the session is saved on a replay as on a first answer."""
    app, _ = with_sessions(way)

    @app.before_request
    def count_requests() -> None:
        session["requests"] = session.get("requests", 0) + 1

    app.post("/")(way(lambda: f"request {session['requests']}"))
    app.add_url_rule("/requests", "requests", lambda: str(session["requests"]))
    client = app.test_client()
    assert [summary(send(client)) for _ in range(3)] == [
        (200, "request 1", False),
        (200, "request 1", True),
        (200, "request 1", True),
    ]
    assert client.get("/requests").text == "4"


def test_r1_a_replay_hands_out_nobodys_session(way: WayIn) -> None:
    """R1: the cookie that a first answer set is not replayed to another browser."""
    app, _ = with_sessions(way)

    @app.post("/")
    @way
    def fill() -> str:
        session["cart"] = 7
        return "run"

    assert "Set-Cookie" in send(app.test_client()).headers
    answer = send(app.test_client())
    assert summary(answer) == (200, "run", True)
    assert "Set-Cookie" not in answer.headers
