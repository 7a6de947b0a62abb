"""Duplicates of a request that is in progress: they wait, time out or are refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count

import pytest
from flask import (
    Flask,
)
from werkzeug.test import TestResponse

from flask_idempotent.stores.memory import MemoryStore
from tests.support.clients import Gate, WayIn, post, problem
from tests.support.faulty_store import Clock, FaultyStore
from tests.support.pauses import within
from tests.support.views import gated

Background = Callable[..., Future[TestResponse]]


class TestInProgress:
    def test_c1_at_once(self, way: WayIn, background: Background) -> None:
        """C1: with timeout 0 a duplicate gets 409 at once, and Retry-After is at least a second."""
        app = way.app(timeout=0)
        gate = gated(app, way)
        first = background(post, app)
        gate.reached()
        with within(0.2):
            duplicate = post(app)
        assert problem(duplicate) == (409, "in-progress")
        assert duplicate.headers["Retry-After"] == "1"
        gate.open()
        assert first.result().text == "run 1"

    @pytest.mark.parametrize("status", [425, 429, 503])
    def test_c1_busy_status(self, way: WayIn, background: Background, status: int) -> None:
        """C1: ``busy_status`` is the status of "in-progress", with the same Retry-After."""
        app = way.app(timeout=0, busy_status=status)
        gate = gated(app, way)
        first = background(post, app)
        gate.reached()
        duplicate = post(app)
        assert problem(duplicate) == (status, "in-progress")
        assert duplicate.headers["Retry-After"] == "1"
        gate.open()
        assert first.result().text == "run 1"

    @pytest.mark.parametrize(("ran", "after"), [(6.5, "7"), (60, "20")])
    def test_c1_retry_after(
        self,
        way: WayIn,
        background: Background,
        monkeypatch: pytest.MonkeyPatch,
        ran: float,
        after: str,
    ) -> None:
        """C1: try again after as long as the first has run so far, within what its lease has."""
        clock, now = Clock(), time.time()
        monkeypatch.setattr(time, "time", lambda: now)
        app = way.app(store=MemoryStore(clock), timeout=0, lease=30)
        gate = gated(app, way)
        first = background(post, app)
        gate.reached()
        clock.now += 10.5
        monkeypatch.setattr(time, "time", lambda: now + ran)
        duplicate = post(app)
        monkeypatch.undo()
        assert duplicate.headers["Retry-After"] == after
        gate.open()
        assert first.result().text == "run 1"

    def test_c1_timeout(self, way: WayIn, background: Background) -> None:
        """C1: a duplicate waits for its timeout, and less than 0.2 s longer."""
        app = way.app(timeout=0.3)
        gate = gated(app, way)
        background(post, app)
        gate.reached()
        with within(0.5, at_least=0.3):
            duplicate = post(app)
        gate.open()
        assert problem(duplicate) == (409, "in-progress")

    def test_waiting_duplicates_get_the_response(self, way: WayIn, background: Background) -> None:
        """Every duplicate that waits gets the first one's response; the view ran once."""
        store = FaultyStore()
        app = way.app(store=store)
        gate = gated(app, way)
        first = background(post, app)
        gate.reached()
        duplicates = [background(post, app) for _ in range(8)]
        for _ in duplicates:
            assert store.listening.acquire(timeout=10)
        gate.open()
        assert first.result().text == "run 1"
        answers = [duplicate.result() for duplicate in duplicates]
        assert {answer.text for answer in answers} == {"run 1"}
        assert all("Idempotent-Replayed" in answer.headers for answer in answers)

    def test_one_of_many_takes_over(self, way: WayIn, background: Background) -> None:
        """When the first fails, one duplicate runs and the others get its response."""
        store, gate, runs = FaultyStore(), Gate(), count(1)
        app = way.app(store=store)

        @app.post("/")
        @way
        def view() -> str:
            run = next(runs)
            if run == 1:
                gate()
                raise ValueError
            return f"run {run}"

        first = background(post, app)
        gate.reached()
        duplicates = [background(post, app) for _ in range(8)]
        for _ in duplicates:
            assert store.listening.acquire(timeout=10)
        gate.open()
        assert first.result().status_code == 500
        answers = [duplicate.result() for duplicate in duplicates]
        assert [answer.text for answer in answers] == ["run 2"] * 8
        assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1

    def test_max_waiters(self, make_app: Callable[..., Flask], background: Background) -> None:
        """Past IDEMPOTENT_MAX_WAITERS a duplicate gets its 409 at once."""
        store = FaultyStore()
        app = make_app(store=store, config={"IDEMPOTENT_MAX_WAITERS": 1})
        gate = gated(app, WayIn("app-wide", make_app))
        background(post, app)
        gate.reached()
        waiter = background(post, app)
        assert store.listening.acquire(timeout=10)
        assert problem(post(app)) == (409, "in-progress")
        gate.open()
        assert waiter.result().text == "run 1"

    def test_e3_own_error_handler(self, way: WayIn, background: Background) -> None:
        """E3: the application's own handler for a conflict answers in the library's place."""
        app = way.app(timeout=0)
        gate = gated(app, way)
        app.register_error_handler(409, lambda error: ("busy", 409))
        background(post, app)
        gate.reached()
        assert post(app).text == "busy"
        gate.open()
