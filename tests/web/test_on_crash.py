"""Runs that died: the next request runs, or nobody does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import count

import pytest
from flask import (
    Flask,
)
from werkzeug.test import TestResponse

from flask_idempotent import _timing, current_claim
from tests.support.clients import WayIn, post, problem
from tests.support.faulty_store import Clock, FaultyStore

Background = Callable[..., Future[TestResponse]]


class TestOnCrash:
    """An owner dies here when the store never hears of its release."""

    @pytest.fixture
    def store(self) -> FaultyStore:
        class Deaf(FaultyStore):
            def release(self, storage_key: str, owner: bytes, **options: object) -> bool:
                return True

        return Deaf()

    def crash(self, app: Flask, way: WayIn) -> None:
        """Let the first run of a view die."""
        runs = count(1)

        @app.post("/")
        @way
        def view() -> str:
            if next(runs) == 1:
                raise SystemExit
            return f"attempt {current_claim.attempt}"

        with pytest.raises(SystemExit):
            post(app)

    def pass_time(self, store: FaultyStore, seconds: float) -> None:
        clock = store.clock
        assert isinstance(clock, Clock)
        clock.now += seconds

    def test_rerun(self, way: WayIn, store: FaultyStore) -> None:
        """When the lease of a dead owner is over, the next request runs, as attempt 2."""
        app = way.app(store=store, lease=30, timeout=0)
        self.crash(app, way)
        self.pass_time(store, 29)
        assert problem(post(app)) == (409, "in-progress")
        self.pass_time(store, 2)
        assert [post(app).text for _ in range(2)] == ["attempt 2"] * 2

    def test_rerun_compares_the_fingerprint(self, way: WayIn, store: FaultyStore) -> None:
        """F4: a dead owner's key is still bound to its payload."""
        app = way.app(store=store, lease=30)
        self.crash(app, way)
        self.pass_time(store, 31)
        assert problem(post(app, data=b"other")) == (422, "key-reused")

    def test_hold(self, way: WayIn, store: FaultyStore) -> None:
        """With ``hold`` a dead owner's key answers 409, not to be retried, for ``hold_for``."""
        app = way.app(store=store, lease=30, expire=240, hold_for=3600, on_crash="hold")
        self.crash(app, way)
        self.pass_time(store, 31)
        answer = post(app)
        assert problem(answer) == (409, "outcome-unknown")
        assert answer.json is not None
        assert answer.json["retryable"] is False
        assert "Retry-After" not in answer.headers
        self.pass_time(store, 3600 - 32)
        assert problem(post(app)) == (409, "outcome-unknown")
        self.pass_time(store, 1)
        assert [post(app).text for _ in range(2)] == ["attempt 1"] * 2
        self.pass_time(store, 240)
        assert post(app).text == "attempt 1"

    def test_hold_tells_waiters(
        self,
        way: WayIn,
        store: FaultyStore,
        background: Background,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """With ``hold`` a waiter is answered as soon as the lease has ended."""
        monkeypatch.setattr(_timing, "POLL_EVERY", 0.01)
        app = way.app(store=store, lease=30, timeout=30, on_crash="hold")
        self.crash(app, way)
        waiter = background(post, app)
        self.pass_time(store, 31)
        assert problem(waiter.result(10)) == (409, "outcome-unknown")
