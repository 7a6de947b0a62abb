"""The scenarios by which idempot.dev judges implementations of the Idempotency-Key draft.

In this project's words, and all but one policy: there a second key with an equal body is a
conflict, here it is a second operation, which may well be meant.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import Any

import pytest
from flask import Flask, request
from werkzeug.test import TestResponse

from flask_idempotent.errors import StoreUnavailable
from tests.conftest import MakeApp
from tests.support.clients import Gate, post, problem
from tests.support.faulty_store import FaultyStore, fail

Background = Callable[..., Future[TestResponse]]
KEY = "abc123456789012345678"
ONE, OTHER = {"json": {"foo": "bar"}}, {"json": {"baz": "qux"}}


@pytest.fixture
def app(make_app: MakeApp, store: FaultyStore) -> Flask:
    """An endpoint that makes an order with each POST and PATCH, and insists on a key."""
    app = make_app(store=store, required=True, methods=["POST", "PATCH"], timeout=0)
    orders = count(1)

    @app.route("/", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def api() -> dict[str, Any]:
        return {"order": next(orders) if request.method in ("POST", "PATCH") else None}

    return app


def document(answer: TestResponse, status: int, slug: str, *, retryable: bool) -> dict[str, Any]:
    """The members of a problem of this kind."""
    assert problem(answer) == (status, slug)
    members: dict[str, Any] = answer.get_json()
    assert members["title"]
    assert members["detail"]
    assert members["instance"].startswith("urn:uuid:")
    assert members["retryable"] is retryable
    return members


class TestKeys:
    @pytest.mark.parametrize(
        ("key", "slug"),
        [
            pytest.param(None, "key-missing", id="missing"),
            pytest.param("", "key-invalid", id="empty"),
            pytest.param("a" * 256, "key-invalid", id="too-long"),
            pytest.param("key,with,commas,longer-than-twenty-chars", "key-invalid", id="commas"),
        ],
    )
    def test_refused(self, app: Flask, store: FaultyStore, key: str | None, slug: str) -> None:
        """A key that is missing or cannot be used is a 400, and makes nothing."""
        members = document(post(app, key, **ONE), 400, slug, retryable=False)
        assert members["idempotency_key"] is None
        assert store.calls == []
        assert post(app, KEY, **ONE).json == {"order": 1}

    def test_accepted(self, app: Flask) -> None:
        """A UUID is a key."""
        assert post(app, "8e03978e-40d5-43e8-bc93-6894a57f9324", **ONE).status_code == 200


class TestRequests:
    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    @pytest.mark.parametrize("options", [ONE, {}], ids=["body", "no-body"])
    def test_first(
        self, app: Flask, store: FaultyStore, method: str, options: dict[str, Any]
    ) -> None:
        """A first request runs, and leaves one record, which is complete."""
        answer = post(app, KEY, method=method, **options)
        assert (answer.status_code, answer.json) == (200, {"order": 1})
        assert "Idempotent-Replayed" not in answer.headers
        (info,) = store.inspect(list(store.scan("")))
        assert info.lease_left_ms is None

    def test_duplicates(self, app: Flask, store: FaultyStore) -> None:
        """However often it is sent again, it gets that response, and makes nothing more."""
        first = post(app, KEY, **ONE)
        for _ in range(3):
            again = post(app, KEY, **ONE)
            assert (again.status, again.data) == (first.status, first.data)
            assert again.headers["Idempotent-Replayed"] == "true"
        assert len(list(store.scan(""))) == 1
        assert post(app, "another-key", **ONE).json == {"order": 2}

    def test_reuse(self, app: Flask) -> None:
        """The key with another body is a 422."""
        post(app, KEY, **ONE)
        members = document(post(app, KEY, **OTHER), 422, "key-reused", retryable=False)
        assert members["idempotency_key"] == KEY

    def test_another_key(self, app: Flask) -> None:
        """Another key with the same body is another operation: the policy that differs."""
        assert [post(app, key, **ONE).json["order"] for key in ("one", "two")] == [1, 2]

    def test_while_the_first_runs(self, app: Flask, background: Background) -> None:
        """A duplicate of a request that is being processed is a 409 that says so."""
        gate = Gate()
        app.view_functions["api"] = lambda: gate() or "done"
        first = background(post, app, KEY, **ONE)
        gate.reached()
        members = document(post(app, KEY, **ONE), 409, "in-progress", retryable=True)
        assert "still being processed" in members["detail"]
        assert members["idempotency_key"] == KEY
        gate.open()
        assert first.result().status_code == 200

    def test_store_away(self, app: Flask, store: FaultyStore) -> None:
        """Without its store a request is a 503, and makes nothing."""
        store.before["claim"] = [fail(StoreUnavailable("away"))]
        document(post(app, KEY, **ONE), 503, "store-unavailable", retryable=True)
        assert post(app, KEY, **ONE).json == {"order": 1}

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    def test_other_methods(self, app: Flask, store: FaultyStore, method: str) -> None:
        """Methods that are not tracked pass by, whatever key they carry."""
        assert post(app, KEY, method=method).status_code == 200
        assert store.calls == []
