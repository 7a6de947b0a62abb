"""Corrected requests: after a refusal another body may use the key."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from flask_idempotent import _timing
from flask_idempotent.records import CompletedRecord
from tests.support.clients import Gate, WayIn, post, problem
from tests.support.faulty_store import FaultyStore
from tests.support.orders import order, validating
from tests.support.polling import until

Background = Callable[..., Future[Any]]


class TestCorrected:
    @pytest.mark.parametrize("status", ["400", "413", "415", "422"])
    def test_c7_corrected_request_runs(self, way: WayIn, status: str) -> None:
        """C7: after a failed validation the corrected request runs, as the next attempt."""
        app = way.app()
        validating(app, way)
        for _ in "12":
            refused = order(app, "x", status=status)
            assert (refused.status_code, refused.text) == (int(status), "run 1: no amount")
        for _ in "12":
            accepted = order(app, "5")
            assert (accepted.status_code, accepted.text) == (201, "run 2: 5, attempt 2")
        assert problem(order(app, "x", status=status)) == (422, "key-reused")

    @pytest.mark.parametrize("status", ["404", "409", "200"])
    def test_f4_other_answers_bind(self, way: WayIn, status: str) -> None:
        """F4: any other answer binds the key, and stays as it is."""
        app = way.app()
        validating(app, way)
        order(app, "x", status=status)
        assert problem(order(app, "5")) == (422, "key-reused")
        assert order(app, "x", status=status).text == "run 1: no amount"

    @pytest.mark.parametrize("other", [{"path": "/orders/2"}, {"method": "PUT"}])
    def test_f5_other_operation(self, way: WayIn, other: dict[str, str]) -> None:
        """F5: another path of the same view, and another method, is not a correction."""
        app = way.app()
        validating(app, way)
        order(app, "x")
        assert problem(order(app, "5", **other)) == (422, "key-reused")

    @pytest.mark.parametrize(
        ("correctable", "status", "runs"),
        [((409,), "409", True), ((409,), "422", False), (False, "422", False)],
    )
    def test_setting(self, way: WayIn, correctable: object, status: str, runs: bool) -> None:
        """C7: ``correctable`` names other statuses, or none."""
        app = way.app(correctable=correctable)
        validating(app, way)
        order(app, "x", status=status)
        assert (order(app, "5").status_code == 201) is runs

    def test_c7_who_waited_gets_422(
        self, way: WayIn, background: Background, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """C7: who was waiting for the answer that was replaced gets 422, as F4 has it."""
        monkeypatch.setattr(_timing, "POLL_EVERY", 60.0)
        store = FaultyStore()
        app, gate = way.app(store=store), Gate()

        @app.post("/")
        @way
        def view() -> tuple[str, int]:
            gate()
            return "no", 422

        first = background(post, app, data="one")
        gate.reached()
        waiting = background(post, app, data="one")
        # Each request has claimed, and the waiter has looked once more after that.
        until(lambda: store.calls.count("claim") == 3)
        store.is_silent = True
        gate.open()
        assert first.result().status_code == 422
        assert post(app, data="two").text == "no"
        store.is_silent = False
        store.wake(*store.scan(""))
        assert problem(waiting.result()) == (422, "key-reused")

    def test_replaced_record(self, way: WayIn) -> None:
        """The record of a corrected request is as any other's, and tells what it is for."""
        store = FaultyStore()
        app = way.app(store=store)
        validating(app, way)
        order(app, "x")
        (name,) = store.scan("")
        first = store.read(name)
        assert isinstance(first, CompletedRecord)
        assert (first.method, first.endpoint, len(first.operation)) == ("POST", "view", 16)
        order(app, "5")
        second = store.read(name)
        assert isinstance(second, CompletedRecord)
        assert (second.attempt, second.operation) == (2, b"")
