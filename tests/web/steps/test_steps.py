"""``step()``: a run goes on where an earlier one stopped."""

from __future__ import annotations

from typing import Any

import pytest
from flask import abort

from flask_idempotent import Crash, current_claim, step
from tests.conftest import MakeApp
from tests.support.clients import WayIn, post, problem, recorded
from tests.support.stepped import SteppedOrders

ALL = ["reserve", "charge", "mail"]


class TestGoesOn:
    @pytest.mark.parametrize("moment", ["mail", "end"])
    def test_after_a_crash(self, way: WayIn, moment: str) -> None:
        """The recorded steps of a run that died are not called again."""
        orders = SteppedOrders(way)
        orders.die_in(moment)
        orders.calls.clear()
        response = orders.post()
        mails = 1 if moment == "end" else 2
        assert orders.calls == ["mail"] * (mails - 1)
        assert response.status_code == 200
        assert response.text.endswith("attempt 2")
        assert response.text.startswith("reserve 1, charge 1, mail")
        assert orders.post().text == response.text

    def test_after_an_exception(self, way: WayIn) -> None:
        """The recorded steps of a run that failed are not called again by the next attempt."""
        orders = SteppedOrders(way)
        orders.fail_in("mail", RuntimeError("no mail"))
        with recorded(orders.app) as events:
            assert orders.post().status_code == 500
        assert [name for name, _ in events] == ["claimed", "released"]
        assert orders.post().text == "reserve 1, charge 1, mail 2; attempt 2"

    def test_after_another_step_failed(self, way: WayIn) -> None:
        """A step without ``once`` whose function failed is called again."""
        orders = SteppedOrders(way)
        orders.fail_in("reserve", RuntimeError("out of stock"))
        assert orders.post().status_code == 500
        assert orders.post().text == "reserve 2, charge 1, mail 1; attempt 1"

    def test_after_an_answer_that_is_not_kept(self, way: WayIn) -> None:
        """Steps survive an answer that is not kept, by ``store_if`` or ``release()``."""
        orders = SteppedOrders(way)
        orders.end = lambda: abort(503)
        assert orders.post().status_code == 503
        orders.end = lambda: current_claim.release()
        assert orders.post().text == "reserve 1, charge 1, mail 1; attempt 2"
        assert orders.post().text == "reserve 1, charge 1, mail 1; attempt 3"
        assert orders.calls == ALL

    def test_not_after_an_answer_that_is_kept(self, way: WayIn) -> None:
        """An error that is kept completes the key, and its steps are deleted."""
        orders = SteppedOrders(way)
        orders.fail_in("mail", RuntimeError("no mail"))
        orders.app.register_error_handler(RuntimeError, lambda _: ("no mail", 422))
        assert orders.post().status_code == 422
        assert orders.steps() == {}
        assert orders.post().headers["Idempotent-Replayed"] == "true"

    def test_corrected_request(self, way: WayIn) -> None:
        """A corrected request runs all of its own steps."""
        orders = SteppedOrders(way)
        orders.end = lambda: abort(422)
        assert orders.post().status_code == 422
        orders.end = lambda: None
        corrected = orders.post(data=b"corrected")
        assert corrected.text == "reserve 2, charge 2, mail 2; attempt 2"

    def test_another_payload(self, way: WayIn) -> None:
        """After a failure the key is free for another payload, which begins without the steps."""
        orders = SteppedOrders(way)
        orders.fail_in("mail", RuntimeError("no mail"))
        orders.post()
        other = orders.post(data=b"other")
        assert other.text == "reserve 2, charge 2, mail 2; attempt 2"
        assert problem(orders.post()) == (422, "key-reused")

    def test_another_payload_while_unknown(self, way: WayIn) -> None:
        """While a step with ``once`` is unknown, another payload gets 422."""
        orders = SteppedOrders(way)
        orders.fail_in("charge", RuntimeError("timeout"))
        orders.post()
        assert problem(orders.post(data=b"other")) == (422, "key-reused")
        assert orders.calls == ["reserve", "charge"]


class TestOnce:
    @pytest.mark.parametrize("on_crash", ["rerun", "hold"])
    def test_process_died(self, way: WayIn, on_crash: str) -> None:
        """A step that began and did not end is never called again: 409, not to be retried."""
        orders = SteppedOrders(way, on_crash=on_crash)
        orders.die_in("charge")
        for _ in range(2):
            response = orders.post()
            assert problem(response) == (409, "outcome-unknown")
            assert response.get_json()["retryable"] is False
            assert "Retry-After" not in response.headers
        assert orders.calls == ["reserve", "charge"]

    def test_function_raised(self, way: WayIn) -> None:
        """An exception of its function leaves it unknown."""
        orders = SteppedOrders(way)
        orders.fail_in("charge", TimeoutError("the PSP does not answer"))
        assert orders.post().status_code == 500
        assert orders.steps() == {"reserve": "ended", "charge": "started"}
        assert problem(orders.post()) == (409, "outcome-unknown")
        assert orders.calls == ["reserve", "charge"]

    def test_view_handled_the_error(self, make_app: MakeApp) -> None:
        """A view that handles the error itself answers what it returns."""
        app = make_app()

        def fail() -> None:
            raise TimeoutError

        @app.post("/")
        def view() -> tuple[str, int]:
            with pytest.raises(TimeoutError):
                step("charge", fail, once=True)
            return "declined", 402

        assert [post(app).text for _ in range(2)] == ["declined"] * 2

    def test_held_for(self, way: WayIn) -> None:
        """The key is held for ``hold_for`` and not for ``expire``, under ``rerun`` too."""
        orders = SteppedOrders(way, expire=240, hold_for=3600)
        orders.die_in("charge")
        orders.pass_time(3600 - 32)
        assert problem(orders.post()) == (409, "outcome-unknown")
        orders.pass_time(1)
        assert orders.post().text == "reserve 2, charge 2, mail 1; attempt 1"

    def test_operator_lets_it_begin(self, way: WayIn) -> None:
        """An operator's release lets it begin again, and keeps the results of other steps."""
        orders = SteppedOrders(way)
        orders.fail_in("charge", RuntimeError("timeout"))
        orders.post()
        (info,) = orders.store.inspect(orders.store.scan(""))
        assert orders.store.release(
            info.storage_key, info.owner, response_ttl_ms=1, tombstone_ttl_ms=1000,
            owner_may_run=True, has_steps=True,
        )  # fmt: skip
        assert orders.post().text == "reserve 1, charge 2, mail 1; attempt 2"

    def test_other_step_failed(self, way: WayIn) -> None:
        """A step that ended is known, whatever fails after it."""
        orders = SteppedOrders(way)
        orders.die_in("mail")
        assert orders.post().text == "reserve 1, charge 1, mail 2; attempt 2"


class TestFunctionDecides:
    """A function given as ``on_crash`` is asked about a step that is unknown."""

    def orders(self, way: WayIn, *decisions: Any, **settings: Any) -> SteppedOrders:
        remaining = list(decisions)

        def decide(crash: Crash) -> Any:
            orders.crashes.append(crash)
            return remaining.pop(0)

        orders = SteppedOrders(way, on_crash=decide, **settings)
        return orders

    def test_after_a_crash(self, way: WayIn) -> None:
        """It is given the names and states of the steps, in their order."""
        orders = self.orders(way, "hold")
        orders.die_in("charge")
        orders.post()
        (crash,) = orders.crashes
        assert list(crash.steps.items()) == [("reserve", "ended"), ("charge", "started")]
        assert crash.attempt == 1

    def test_after_an_exception(self, way: WayIn) -> None:
        """It is asked at the next request after an exception of the step, too."""
        orders = self.orders(way, ("the charge was found", 201))
        orders.fail_in("charge", TimeoutError())
        assert orders.post().status_code == 500
        first, second = orders.post(), orders.post()
        assert (first.status_code, first.text) == (201, "the charge was found")
        assert second.text == first.text
        (crash,) = orders.crashes
        assert (crash.attempt, crash.steps["charge"]) == (1, "started")
        assert orders.steps() == {}

    def test_rerun(self, way: WayIn) -> None:
        """Its "rerun" lets the step begin again; the recorded ones stay recorded."""
        orders = self.orders(way, "rerun")
        orders.die_in("charge")
        assert orders.post().text == "reserve 1, charge 2, mail 1; attempt 2"

    def test_hold(self, way: WayIn) -> None:
        """While it holds others get 409, retryable; the next function hears of the same steps."""
        orders = self.orders(way, "hold", "rerun")
        orders.die_in("charge")
        response = orders.post()
        assert problem(response) == (409, "outcome-unknown")
        assert int(response.headers["Retry-After"]) > 1
        orders.pass_time(31)
        assert orders.post().text == "reserve 1, charge 2, mail 1; attempt 3"
        assert [dict(crash.steps) for crash in orders.crashes] == [orders.crashes[0].steps] * 2

    def test_not_after_a_failure(self, way: WayIn) -> None:
        """It is not asked where every step that began is known to have ended."""
        orders = self.orders(way)
        orders.fail_in("mail", RuntimeError("no mail"))
        orders.post()
        assert orders.post().text == "reserve 1, charge 1, mail 2; attempt 2"

    def test_no_steps(self, way: WayIn) -> None:
        """Where the run that died had none there are none."""
        orders = self.orders(way, "rerun")
        orders.die_in("reserve")
        orders.post()
        assert [dict(crash.steps) for crash in orders.crashes] == [{}]

    def test_step_in_it(self, way: WayIn) -> None:
        """``step()`` inside of it is an error that says so, and the key is held."""
        errors: list[str] = []

        def decide(_: Crash) -> str:
            with pytest.raises(RuntimeError) as error:
                step("look up", str)
            errors.append(str(error.value))
            return "rerun"

        orders = SteppedOrders(way, on_crash=decide)
        orders.die_in("charge")
        assert orders.post().text == "reserve 1, charge 2, mail 1; attempt 2"
        assert "called by a function given as on_crash" in errors[0]
