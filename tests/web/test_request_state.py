"""Request state: requests that a view makes from its own environment."""

from __future__ import annotations

from itertools import count

from flask import Flask, request
from werkzeug.test import run_wsgi_app

from flask_idempotent.web.templating import new_key
from tests.support.clients import WayIn, post
from tests.support.faulty_store import FaultyStore


def sub_request(app: Flask, **changes: str) -> str:
    """Have an application serve a request with a copy of this one's environment."""
    body, status, _ = run_wsgi_app(app, {**request.environ, **changes}, buffered=True)
    return f"{status[:3]} {b''.join(body).decode()}"


def nested(way: WayIn, store: FaultyStore, **changes: str) -> Flask:
    """An application with a view that makes such a request, and returns its answer."""
    app, runs = way.app(store=store), count(1)
    app.post("/inner")(way(lambda: f"inner {next(runs)}"))

    @app.post("/")
    @way
    def outer() -> str:
        return sub_request(app, PATH_INFO="/inner", **changes)

    return app


def test_key_of_its_own(way: WayIn) -> None:
    """It is another request: with a key of its own it is protected."""
    store = FaultyStore()
    app = nested(way, store, HTTP_IDEMPOTENCY_KEY="key-inner")
    assert post(app, "one").text == post(app, "two").text == "200 inner 1"
    first, second = store.calls[:4], store.calls[4:]
    assert first == ["claim", "claim", "complete", "complete"]
    assert second == ["claim", "claim", "complete"]


def test_key_of_the_outer_request(way: WayIn) -> None:
    """With the key of the request that makes it, it runs: that one has the key."""
    store = FaultyStore()
    app = nested(way, store)
    assert [post(app).text for _ in "12"] == ["200 inner 1", "200 inner 1"]
    assert store.calls == ["claim", "complete", "claim"]


def test_keys_in_both_pages(way: WayIn) -> None:
    """Its page with a fresh key stays out of caches, although the outer page has a key as well."""
    app = way.app()
    app.get("/form")(lambda: new_key())

    @app.get("/")
    def outer() -> str:
        new_key()
        _, _, headers = run_wsgi_app(app, {**request.environ, "PATH_INFO": "/form"})
        return headers.get("Cache-Control", "none")

    assert app.test_client().get("/").text == "private, no-store"
