"""Requests that wait while a function decides what follows a crash."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from flask_idempotent.web.state import state_of
from tests.support.clients import Gate, WayIn, post, problem
from tests.support.engines import without_thread
from tests.support.payments import Payments
from tests.support.views import Background


def decided_while_one_waits(
    way: WayIn, decision: str, background: Background
) -> tuple[Payments, Future[Any], Future[Any]]:
    """One request is asked what follows a crash, and decides when another one waits."""
    gate = Gate()

    def think() -> str:
        gate()
        return decision

    payments = Payments(way, think, timeout=30)
    payments.die()
    asked = background(post, payments.app)
    gate.reached()
    waiter = background(post, payments.app)
    assert payments.store.listening.acquire(timeout=10)
    gate.open()
    return payments, asked, waiter


class TestWaiters:
    def test_one_is_asked(self, way: WayIn, background: Background) -> None:
        """While one thinks the others wait, and get its response."""
        payments, asked, waiter = decided_while_one_waits(way, "decided", background)
        assert [asked.result(10).text, waiter.result(10).text] == ["decided"] * 2
        assert len(payments.crashes) == 1

    def test_hold_wakes_them(self, way: WayIn, background: Background) -> None:
        """When the key is held, those that wait are answered at once."""
        _, asked, waiter = decided_while_one_waits(way, "hold", background)
        assert problem(waiter.result(10)) == problem(asked.result(10)) == (409, "outcome-unknown")

    def test_lease_is_renewed(self, way: WayIn, background: Background) -> None:
        """The lease is renewed while the function thinks."""
        gate = Gate()

        def think() -> str:
            gate()
            return "hold"

        payments = Payments(way, think)
        payments.die()
        worker = without_thread(state_of(payments.app).engine.worker)
        asked = background(post, payments.app)
        gate.reached()
        payments.pass_time(25)
        (claim,) = worker.renewals
        claim.renewed -= 25
        worker.renewals.renew_due()
        payments.pass_time(25)
        assert problem(post(payments.app)) == (409, "in-progress")
        gate.open()
        asked.result(10)
