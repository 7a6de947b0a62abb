"""Flask-Limiter: a limit that is spent is never the answer to a retry."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from flask import Flask
from flask_limiter import Limiter

from flask_idempotent import idempotent
from tests.neighbours.client import send, summary
from tests.support.clients import WayIn
from tests.support.faulty_store import FaultyStore


def limiter_of(app: Flask, **options: Any) -> Limiter:
    return Limiter(lambda: "client", app=app, storage_uri="memory://", **options)


def test_c3_default_limits_come_first(way: WayIn) -> None:
    """C3: what a limit in ``before_request`` refuses never claims, and the key stays new."""
    store = FaultyStore()
    app, runs = way.app(store=store), count(1)
    limiter = limiter_of(app, default_limits=["1/minute"])

    @app.post("/")
    @way
    def order() -> str:
        return f"run {next(runs)}"

    client = app.test_client()
    assert send(client, key="a").status_code == 200
    calls = list(store.calls)
    assert send(client, key="b").status_code == 429
    assert store.calls == calls
    limiter.reset()
    assert summary(send(client, key="b")) == (200, "run 2", False)


def test_default_limits_count_replays(way: WayIn) -> None:
    """A replay is a request like any other: limits in ``before_request`` refuse it too."""
    app = way.app()
    limiter = limiter_of(app, default_limits=["1/minute"])
    app.post("/")(way(lambda: "run"))
    client = app.test_client()
    assert send(client).status_code == 200
    assert send(client).status_code == 429
    limiter.reset()
    assert summary(send(client)) == (200, "run", True)


def limited_below(app: Flask, way: WayIn, limiter: Limiter) -> None:
    runs = count(1)

    @app.post("/")
    @way
    @limiter.limit("1/minute")
    def order() -> str:
        return f"run {next(runs)}"


def test_c4_decorator_below(way: WayIn) -> None:
    """C4: a 429 from inside the view is not stored; the key runs once there is room again."""
    app = way.app()
    limiter = limiter_of(app)
    limited_below(app, way, limiter)
    client = app.test_client()
    assert summary(send(client, key="a")) == (200, "run 1", False)
    assert [send(client, key="b").status_code for _ in range(2)] == [429, 429]
    limiter.reset()
    assert summary(send(client, key="b")) == (200, "run 2", False)
    assert summary(send(client, key="b")) == (200, "run 2", True)


def test_decorator_below_counts_runs(way: WayIn) -> None:
    """A limit inside counts runs, so replays are free."""
    app = way.app()
    limited_below(app, way, limiter_of(app))
    client = app.test_client()
    assert [send(client).status_code for _ in range(3)] == [200, 200, 200]
    assert send(client, key="b").status_code == 429


@pytest.mark.parametrize("name", ["decorated", "both"])
def test_c3_decorator_above(make_app: Callable[..., Flask], name: str) -> None:
    """C3: a limit above ``@idempotent`` counts replays, and its 429 never claims."""
    store = FaultyStore()
    app = WayIn(name, make_app).app(store=store)
    limiter = limiter_of(app)

    @app.post("/")
    @limiter.limit("1/minute")
    @idempotent
    def order() -> str:
        return "run"

    client = app.test_client()
    assert send(client).status_code == 200
    calls = list(store.calls)
    assert send(client).status_code == 429
    assert store.calls == calls
    limiter.reset()
    assert summary(send(client)) == (200, "run", True)


def test_r1_headers_of_the_limit_are_fresh(way: WayIn) -> None:
    """R1: a replay says once what is left of the limit now, not what was left at the first run."""
    app = way.app()
    limiter_of(app, default_limits=["5/minute"], headers_enabled=True)
    app.post("/")(way(lambda: "run"))
    client = app.test_client()
    left = [send(client).headers.getlist("X-RateLimit-Remaining") for _ in range(3)]
    assert left == [["4"], ["3"], ["2"]]
