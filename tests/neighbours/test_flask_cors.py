"""Flask-CORS: each answer is for the origin that asks for it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from flask import Flask, abort
from flask_cors import CORS, cross_origin
from werkzeug.test import TestResponse

from flask_idempotent import idempotent
from tests.neighbours.client import send, summary
from tests.support.clients import WayIn, problem
from tests.support.faulty_store import FaultyStore

ONE, OTHER = "https://one.example", "https://other.example"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "Idempotency-Key",
}


def shop(way: WayIn, **options: object) -> Flask:
    app, runs = way.app(**options), count(1)
    CORS(
        app,
        origins=[ONE, OTHER],
        supports_credentials=True,
        expose_headers=["Idempotent-Replayed"],
    )

    @app.post("/")
    @way
    def order() -> str:
        return f"run {next(runs)}"

    @app.post("/gone")
    @way
    def gone() -> str:
        next(runs)
        abort(410)

    return app


def check_cors(answer: TestResponse, origin: str) -> None:
    """Check that a browser lets this origin read the answer."""
    assert answer.headers.getlist("Access-Control-Allow-Origin") == [origin]
    assert answer.headers.getlist("Access-Control-Allow-Credentials") == ["true"]
    assert answer.headers.getlist("Access-Control-Expose-Headers") == ["Idempotent-Replayed"]
    assert "Origin" in varies(answer)


def varies(answer: TestResponse) -> set[str]:
    """What an answer varies by; Flask-CORS adds a second header line."""
    return set(answer.headers.getlist("Vary"))


def test_w2_preflight(way: WayIn) -> None:
    """W2: a preflight is answered by Flask-CORS, asks no store and needs no key."""
    store = FaultyStore()
    app = shop(way, store=store, required=True)
    headers = {**PREFLIGHT, "Origin": ONE}
    for key in (None, "key-one", "not, a key"):
        answer = send(app.test_client(), method="OPTIONS", key=key, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == ONE
        assert "idempotency-key" in answer.headers["Access-Control-Allow-Headers"].lower()
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert store.calls == []


@pytest.mark.parametrize("path", ["/", "/gone"])
def test_r1_replay_is_for_its_own_origin(way: WayIn, path: str) -> None:
    """R1: a replay, of an error too, has the CORS headers of the origin that asks, once each."""
    client = shop(way).test_client()
    for number, origin in enumerate((ONE, OTHER, ONE)):
        answer = send(client, path, headers={"Origin": origin})
        assert answer.headers.get("Idempotent-Replayed") == ("true" if number else None)
        check_cors(answer, origin)
        assert varies(answer) == {"Origin"}


def test_r1_no_cors_for_a_stranger(way: WayIn) -> None:
    """R1: an origin that is not allowed gets no leave from a stored response."""
    client = shop(way).test_client()
    send(client, headers={"Origin": ONE})
    answer = send(client, headers={"Origin": "https://evil.example"})
    assert summary(answer) == (200, "run 1", True)
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_e3_problems_carry_cors(way: WayIn) -> None:
    """E3: our own errors can be read by the page that asked."""
    client = shop(way, required=True).test_client()
    send(client)
    asked = {
        "key-reused": send(client, data=b"other", headers={"Origin": OTHER}),
        "key-missing": send(client, key=None, headers={"Origin": OTHER}),
        "key-invalid": send(client, key='"', headers={"Origin": OTHER}),
    }
    for slug, answer in asked.items():
        assert problem(answer)[1] == slug
        check_cors(answer, OTHER)
        assert "Accept" in varies(answer)


def test_cross_origin_above(make_app: Callable[..., Flask]) -> None:
    """``@cross_origin`` above ``@idempotent`` sees to first answers, replays and preflights."""
    app = make_app(wide=False)

    @app.post("/")
    @cross_origin(origins=[ONE, OTHER])
    @idempotent
    def order() -> str:
        return "run"

    client = app.test_client()
    for again, origin in ((False, ONE), (True, OTHER)):
        answer = send(client, headers={"Origin": origin})
        assert summary(answer) == (200, "run", again)
        assert answer.headers.getlist("Access-Control-Allow-Origin") == [origin]
    preflight = send(client, method="OPTIONS", headers={**PREFLIGHT, "Origin": ONE})
    assert preflight.headers["Access-Control-Allow-Origin"] == ONE
