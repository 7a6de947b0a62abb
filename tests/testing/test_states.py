"""Keys that a test has put into a state."""

from __future__ import annotations

from typing import Any

import pytest
from blinker import NamedSignal
from flask import Flask

from flask_idempotent import Crash, current_claim, step
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.testing import Idempotency, NotIdempotent, PreparedKey
from flask_idempotent.web.state import state_of
from tests.support.faulty_store import fail
from tests.testing.apps import app_with, bare


def order() -> tuple[dict[str, Any], int]:
    """A view of two steps, which says what they returned and how often it was tried."""
    shelf = step("reserve", lambda: 1)
    payment = step("charge", lambda: "new", once=True)
    return {"shelf": shelf, "payment": payment, "attempt": current_claim.attempt}, 201


class Prepare:
    """Prepares keys of one application."""

    def __init__(self, idempotency: Idempotency) -> None:
        self._idempotency = idempotency
        self.crashes: list[Crash] = []

    def decide(self, crash: Crash) -> str:
        self.crashes.append(crash)
        return "rerun"

    def __call__(self, state: Any, *, app: Flask | None = None, **options: Any) -> PreparedKey:
        settings = {"timeout": 0} | options.pop("settings", {})
        app = app or app_with(order, **settings)
        return self._idempotency.prepare_key(state, app.test_client(), "POST", "/orders", **options)


@pytest.fixture
def prepare(idempotency: Idempotency) -> Prepare:
    return Prepare(idempotency)


def problem(key: PreparedKey) -> tuple[str, bool]:
    """Send a prepared request that is refused; the problem, and whether it is retryable."""
    answer = key.send().json
    return answer["type"].rpartition(":")[2], answer["retryable"]


class TestStates:
    def test_running(self, prepare: Prepare, idempotency: Idempotency) -> None:
        """Its owner has the lease, until the clock has passed it."""
        key = prepare("running", steps={"reserve": 7})
        assert problem(key) == ("in-progress", True)
        idempotency.clock.advance(30)
        assert key.send().json == {"shelf": 7, "payment": "new", "attempt": 2}

    def test_signals_stay_connected(
        self, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No signal is disconnected: blinker fails if another thread adds a sender meanwhile."""
        app = app_with(order)
        app.test_client().get("/")  # An application's first request prepares it.
        monkeypatch.setattr(NamedSignal, "disconnect", fail(RuntimeError("changed size")))
        assert prepare("released", app=app).send().status_code == 201

    def test_lapsed(self, prepare: Prepare) -> None:
        """Its owner died: the view runs as attempt 2, with the results of the steps."""
        key = prepare("lapsed", steps={"reserve": 7, "charge": "old"}, json={"product": "mug"})
        assert key.send().json == {"shelf": 7, "payment": "old", "attempt": 2}
        assert key.send().headers["Idempotent-Replayed"] == "true"

    def test_open_step(self, prepare: Prepare) -> None:
        """Its owner died in a step with ``once=True``: the key is held."""
        for state in ("lapsed", "held"):
            key = prepare(state, steps={"reserve": 7}, open_step="charge")
            assert problem(key) == ("outcome-unknown", False)

    def test_asked(self, prepare: Prepare) -> None:
        """A function is asked about the steps."""
        settings = {"on_crash": prepare.decide}
        key = prepare("lapsed", settings=settings, steps={"reserve": 7}, open_step="charge")
        assert key.send().json == {"shelf": 7, "payment": "new", "attempt": 2}
        (crash,) = prepare.crashes
        assert (crash.attempt, dict(crash.steps)) == (1, {"reserve": "ended", "charge": "started"})

    def test_held(self, prepare: Prepare) -> None:
        """With ``on_crash="hold"`` nobody runs the view."""
        assert problem(prepare("held", settings={"on_crash": "hold"})) == ("outcome-unknown", False)

    def test_held_by_a_function(self, prepare: Prepare, idempotency: Idempotency) -> None:
        """Where a function holds the key, the next request is asked when the lease has ended."""
        decisions = iter(["hold", "rerun"])
        key = prepare("held", settings={"on_crash": lambda crash: next(decisions)})
        assert problem(key) == ("outcome-unknown", True)
        idempotency.clock.advance(30)
        assert problem(key) == ("outcome-unknown", True)
        idempotency.clock.advance(30)
        assert key.send().status_code == 201

    def test_released(self, prepare: Prepare) -> None:
        """Its view failed: the next request goes on after the steps that have ended."""
        key = prepare("released", steps={"reserve": 7})
        assert key.send().json == {"shelf": 7, "payment": "new", "attempt": 2}
        assert prepare("released").send().json["attempt"] == 1
        key = prepare("released", steps={"reserve": 7}, open_step="charge")
        assert problem(key) == ("outcome-unknown", False)

    def test_other_keys_of_the_test(self, prepare: Prepare) -> None:
        """A lease ends without letting time pass for other keys."""
        app = app_with(order)
        first = prepare("running", app=app)
        prepare("lapsed", app=app)
        store = state_of(app).engine.store
        assert isinstance(store, InspectableStore)
        (info,) = store.inspect([first.storage_key])
        assert info.lease_left_ms == 30_000

    def test_with_key(self, prepare: Prepare) -> None:
        """A key of the view's own is put where the test says."""
        app = app_with(order, key=lambda request: request.headers["X-Order"])
        key = prepare("lapsed", app=app, with_key=lambda key: {"headers": {"X-Order": key}})
        assert key.send().json["attempt"] == 2


class TestErrors:
    def test_no_such_state(self, prepare: Prepare) -> None:
        """A state that does not exist is an error that names those that do."""
        with pytest.raises(ValueError, match="can be running, lapsed, held, released, not 'dead'"):
            prepare("dead")

    def test_never_held(self, prepare: Prepare) -> None:
        """A key that is never held is not put into that state, and the error says why."""
        with pytest.raises(ValueError, match=r"because its on_crash is 'rerun': name that step"):
            prepare("held")

    def test_unprotected(self, prepare: Prepare) -> None:
        """A request that claims nothing has no key to prepare; the error says how to fix it."""
        app = bare()
        app.add_url_rule("/orders", "orders", lambda: "ran", methods=["POST"])
        with pytest.raises(NotIdempotent, match="the view is not protected"):
            prepare("lapsed", app=app)

    def test_value(self, prepare: Prepare) -> None:
        """A result that no step can have is the error that the step would raise."""
        with pytest.raises(TypeError, match="reserve"):
            prepare("lapsed", steps={"reserve": object()})
