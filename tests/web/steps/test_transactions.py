"""Steps of a view with ``transaction=``: the store has them, the database has the answer."""

from __future__ import annotations

from typing import Any

import pytest

from flask_idempotent import LeaseLost, StepUnknown, step
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.records import RunningRecord
from flask_idempotent.web.flask_compat import current_request
from flask_idempotent.web.request_state import request_state
from tests.conftest import MakeApp
from tests.support.clients import problem
from tests.support.faulty_store import fail
from tests.support.shop import Shop
from tests.support.stepped import never
from tests.support.transactions import raising


class SteppedShop(Shop):
    """A shop whose view charges after it has written its row."""

    def __init__(self, make_app: MakeApp, **settings: Any) -> None:
        super().__init__(make_app, **{"lease": 30, "timeout": 0} | settings)
        self.charges = 0
        self.answer = lambda: (f"run {self.runs}, charge {step('charge', self.charge)}", 201)
        self.app.register_error_handler(LeaseLost, never)
        self.app.register_error_handler(StepUnknown, never)

    def charge(self) -> int:
        self.charges += 1
        return self.charges


@pytest.fixture
def shop(make_app: MakeApp) -> SteppedShop:
    return SteppedShop(make_app)


class TestSteps:
    def test_failed_commit(self, shop: SteppedShop) -> None:
        """A commit that fails rolls back, and the next run has the step's result."""
        shop.db.before["commit"].append(raising(RuntimeError("deadlock")))
        assert shop.post().status_code == 500
        assert shop.db.rows == []
        assert [shop.post().text for _ in range(2)] == ["run 2, charge 1"] * 2
        assert shop.db.rows == ["row 2"]

    def test_look_up_first(self, shop: SteppedShop) -> None:
        """A committed answer is replayed before any step, and the steps are deleted."""
        shop.db.after["commit"].append(raising(SystemExit()))
        shop.store.is_deaf = True
        with pytest.raises(SystemExit):
            shop.post()
        shop.store.is_deaf = False
        shop.pass_time(31)
        (info,) = shop.store.inspect(shop.store.scan(""))
        assert info.steps == {"charge": "ended"}
        assert shop.post().text == "run 1, charge 1"
        (info,) = shop.store.inspect(shop.store.scan(""))
        assert (info.steps, shop.runs) == ({}, 1)

    def test_open_step_with_an_answer(self, make_app: MakeApp) -> None:
        """Where a step is unknown and the database has the answer, that is replayed."""
        shop = SteppedShop(make_app)
        shop.answer = lambda: step("charge", self_destruct, once=True)
        commit = shop.other_run()

        def self_destruct() -> None:
            commit()
            raise SystemExit

        with pytest.raises(SystemExit):
            shop.post()
        assert shop.post().text == "the other run"
        (info,) = shop.store.inspect(shop.store.scan(""))
        assert info.steps == {}


class TestErrors:
    @pytest.mark.parametrize("error", [LeaseLost(), StepUnknown("charge")])
    def test_rolled_back(self, shop: SteppedShop, error: Exception) -> None:
        """A view that one of them leaves is rolled back."""
        shop.answer = raising(error)
        assert shop.post().status_code == 409
        assert shop.db.rows == []
        assert shop.db.calls.count("roll_back") >= 1

    def test_store_fails(self, shop: SteppedShop) -> None:
        """A view that the store does not let begin a step is rolled back."""
        shop.answer = lambda: str(step("charge", shop.charge, once=True))
        shop.store.before["step"] = [fail(StoreUnavailable("away"))]
        assert problem(shop.post()) == (503, "store-unavailable")
        assert (shop.db.rows, shop.charges) == ([], 0)
        assert shop.post().text == "1"
        assert shop.db.rows == ["row 2"]

    def test_answer_of_the_database(self, shop: SteppedShop) -> None:
        """A late owner gets the answer that the database has, where the store has lost it."""
        commit = shop.other_run()

        def lose() -> Any:
            commit()
            (storage_key,) = shop.store.scan("")
            record = shop.store.read(storage_key)
            assert isinstance(record, RunningRecord)
            shop.forget()
            another = record._replace(owner=b"another owner 12", fingerprint=b"another 34567890")
            shop.store.claim(storage_key, another, ttl_ms=240_000)
            return str(step("charge", shop.charge, once=True))

        shop.answer = lose
        assert shop.post().text == "the other run"
        assert (shop.charges, shop.db.rows) == (0, ["row of the other run"])

    def test_without_the_store(self, make_app: MakeApp) -> None:
        """Where the view runs without the store, with attempt 0, its steps are just called."""
        shop = SteppedShop(make_app, on_store_error="run")
        shop.fail_store("claim")
        assert [shop.post().text for _ in range(2)] == ["run 1, charge 1"] * 2
        assert "step" not in shop.store.calls

    def test_late_owner(self, shop: SteppedShop) -> None:
        """A late owner commits nothing."""

        def lose() -> Any:
            claim = request_state(current_request()).claim
            assert claim is not None
            claim.held = False
            return str(step("charge", shop.charge))

        shop.answer = lose
        assert problem(shop.post()) == (409, "in-progress")
        assert (shop.db.rows, shop.charges, shop.db.answers) == ([], 0, {})
