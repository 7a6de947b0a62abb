"""Errors of steps that leave the view: what the client gets, and what becomes of the key."""

from __future__ import annotations

from typing import Any

import pytest

from flask_idempotent import Crash, StepUnknown, problems
from flask_idempotent.errors import RecordUnreadable, StoreUnavailable
from flask_idempotent.records import RunningRecord
from flask_idempotent.stores.base import Step
from flask_idempotent.web.state import state_of
from tests.conftest import MakeApp
from tests.support.clients import WayIn, post, problem, recorded
from tests.support.faulty_store import fail
from tests.support.stepped import SteppedOrders, raising

AWAY = StoreUnavailable("away")
DAMAGED = RecordUnreadable("damaged")


class TestStepUnknown:
    """Marks are found when the key is claimed, unless the store has lost the record alone."""

    @pytest.fixture
    def unknown(self, orders: SteppedOrders, monkeypatch: pytest.MonkeyPatch) -> SteppedOrders:
        """The store has the mark of an earlier run, whose record it has lost."""
        mark, write_step = Step("charge", b"another owner 12", 1.0), orders.store.write_step

        def write(storage_key: str, record: RunningRecord, step: Step, **options: Any) -> Any:
            if step.name == "charge" and step.value is None:
                return mark
            return write_step(storage_key, record, step, **options)

        monkeypatch.setattr(orders.store, "write_step", write)
        return orders

    def test_answer(self, unknown: SteppedOrders) -> None:
        """The view is released, and the answer is 409, not to be retried."""
        with recorded(unknown.app) as events:
            response = unknown.post()
        assert problem(response) == (409, "outcome-unknown")
        assert response.get_json()["retryable"] is False
        assert [name for name, _ in events] == ["claimed", "released", "rejected"]
        assert unknown.calls == ["reserve"]

    def test_function_is_asked_next(self, way: WayIn) -> None:
        """Where a function decides, the next request asks it: Retry-After is 1."""
        app = way.app(on_crash=lambda crash: "hold")

        @app.post("/")
        @way
        def view() -> str:
            raise StepUnknown("charge")

        response = post(app)
        assert problem(response) == (409, "outcome-unknown")
        assert response.headers["Retry-After"] == "1"


class TestStoreFails:
    def test_before_once(self, orders: SteppedOrders) -> None:
        """Before a step with ``once`` a failing store is 503: nothing ran, and a retry goes on."""
        orders.store.before["step"] = [lambda: None, fail(AWAY)]
        with recorded(orders.app) as events:
            response = orders.post()
        assert problem(response) == (503, "store-unavailable")
        assert response.headers["Retry-After"] == "1"
        assert "goes on from there" in response.get_json()["detail"]
        failures = [data["operation"] for name, data in events if name == "store_failed"]
        assert failures == ["step"]
        assert orders.calls == ["reserve"]
        assert orders.post().text == "reserve 1, charge 1, mail 1; attempt 2"

    def test_reply_to_mark_is_lost(self, orders: SteppedOrders) -> None:
        """A mark whose reply was lost is 503 too: the function never ran, and a retry goes on."""
        orders.store.after["step"] = [lambda: None, fail(AWAY)]
        assert problem(orders.post()) == (503, "store-unavailable")
        assert orders.post().text == "reserve 1, charge 1, mail 1; attempt 2"

    def test_result(self, orders: SteppedOrders) -> None:
        """A result that the store does not take does not stop the view."""
        orders.store.before["step"] = [fail(AWAY)]
        assert orders.post().text == "reserve 1, charge 1, mail 1; attempt 1"

    def test_read(self, orders: SteppedOrders) -> None:
        """A later run that cannot read what was recorded does not begin its first step."""
        orders.die_in("mail")
        orders.store.before["read_steps"] = [fail(AWAY)]
        assert problem(orders.post()) == (503, "store-unavailable")
        assert orders.post().text == "reserve 1, charge 1, mail 2; attempt 3"

    def test_form(self, orders: SteppedOrders) -> None:
        """Somebody who sent a form is told that nothing is done twice."""
        orders.store.before["step"] = [lambda: None, fail(AWAY)]
        form = {"__idempotent_key": "key-one"}
        page = post(orders.app, None, data=form, headers={"Accept": "text/html"})
        assert page.status_code == 503
        assert "What was done is not done twice." in page.text

    def test_own_handler_of_problems(self, orders: SteppedOrders) -> None:
        """E3: the application's own handler of this problem answers, as for any other."""
        handler = problems.TemporarilyUnavailable
        orders.app.register_error_handler(handler, lambda error: (f"own {error.slug}", 503))
        orders.store.before["step"] = [lambda: None, fail(AWAY)]
        assert orders.post().text == "own store-unavailable"

    def test_other_store_error(self, make_app: MakeApp) -> None:
        """An error of a view without steps is the view's own, whatever its class."""
        app = make_app()
        app.register_error_handler(StoreUnavailable, lambda error: (str(error), 500))

        @app.post("/")
        def view() -> str:
            raise StoreUnavailable("of the view")

        assert post(app).text == "of the view"


class TestDamaged:
    @pytest.mark.parametrize("once", [True, False])
    def test_value(self, orders: SteppedOrders, once: bool) -> None:
        """A damaged result is 503, again and again, and the function is never called again."""
        orders.die_in("mail")
        name = "charge" if once else "reserve"
        orders.damage(name)
        orders.calls.clear()
        for _ in range(2):
            assert problem(orders.post()) == (503, "record-unreadable")
        assert orders.calls == []

    def test_steps(self, orders: SteppedOrders, monkeypatch: pytest.MonkeyPatch) -> None:
        """The answer is 503 where the store cannot read the steps at all."""
        orders.die_in("mail")
        monkeypatch.setattr(orders.store, "read_steps", raising(DAMAGED))
        orders.calls.clear()
        assert problem(orders.post()) == (503, "record-unreadable")
        assert orders.calls == []

    def test_function_is_not_asked(self, way: WayIn, monkeypatch: pytest.MonkeyPatch) -> None:
        """A function is not asked about steps that cannot be read, and is asked later."""
        crashes: list[Crash] = []

        def decide(crash: Crash) -> str:
            crashes.append(crash)
            return "rerun"

        orders = SteppedOrders(way, on_crash=decide)
        orders.die_in("charge")
        with monkeypatch.context() as patch:
            patch.setattr(orders.store, "read_steps", raising(DAMAGED))
            assert problem(orders.post()) == (503, "record-unreadable")
        orders.store.before["read_steps"] = [fail(AWAY)]
        for _ in range(2):
            state_of(orders.app).engine.worker.pending.run()
            orders.post()
        assert [dict(crash.steps) for crash in crashes] == [
            {"reserve": "ended", "charge": "started"}
        ]
