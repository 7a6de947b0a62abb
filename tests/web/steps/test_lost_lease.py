"""A late owner's next step: it does not begin, and the request gets what a duplicate gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from flask import Response, stream_with_context
from werkzeug.test import TestResponse

from flask_idempotent import LeaseLost, step
from flask_idempotent.errors import RecordUnreadable, StoreUnavailable
from flask_idempotent.web.flask_compat import current_request
from flask_idempotent.web.request_state import request_state
from flask_idempotent.web.state import state_of
from tests.conftest import MakeApp
from tests.support.clients import WayIn, post, problem, recorded
from tests.support.faulty_store import FaultyStore
from tests.support.stepped import SteppedOrders, raising

Background = Callable[..., Future[TestResponse]]
AWAY = StoreUnavailable("away")
DAMAGED = RecordUnreadable("damaged")


class TestLeaseLost:
    """A late owner's next step does not begin, and its request is answered like a duplicate."""

    @pytest.mark.parametrize("name", ["reserve", "charge"])
    def test_replay(self, orders: SteppedOrders, name: str) -> None:
        """The other run has answered: its response is replayed, and nothing of this run is kept."""
        orders.lose_in(name, orders.complete)
        with recorded(orders.app) as events:
            response = orders.post()
        assert (response.status_code, response.text) == (201, "the other run")
        assert response.headers["Idempotent-Replayed"] == "true"
        assert "mail" not in orders.calls
        assert [name for name, _ in events] == ["claimed", "lease_lost", "replayed"]
        assert orders.post().text == "the other run"

    def test_in_progress(self, orders: SteppedOrders) -> None:
        """The other run goes on: 409, and its claim stays."""
        orders.lose_in("reserve")
        response = orders.post()
        assert problem(response) == (409, "in-progress")
        assert 1 <= int(response.headers["Retry-After"]) <= 30
        assert orders.calls == ["reserve"]
        assert orders.record.owner == b"another owner 12"
        assert orders.steps() == {}
        assert list(state_of(orders.app).engine.worker.renewals) == []

    def test_waits(self, way: WayIn, background: Background) -> None:
        """It waits for the other run up to ``timeout``, and gets its response."""
        orders = SteppedOrders(way, timeout=10)
        orders.lose_in("reserve")
        waiting = background(orders.post)
        assert orders.store.listening.acquire(timeout=10)
        orders.complete()
        assert waiting.result(10).text == "the other run"

    def test_other_run_gives_up(self, way: WayIn, background: Background) -> None:
        """Where the other run gives up, this request does not run again: the next one does."""
        orders = SteppedOrders(way, timeout=10)
        orders.lose_in("reserve")
        waiting = background(orders.post)
        assert orders.store.listening.acquire(timeout=10)
        orders.release()
        response = waiting.result(10)
        assert problem(response) == (409, "in-progress")
        assert response.headers["Retry-After"] == "1"
        assert orders.post().text == "reserve 2, charge 1, mail 1; attempt 3"

    @pytest.mark.parametrize(("seconds", "attempt"), [(31, 2), (241, 1)])
    def test_nobody_has_the_key(self, way: WayIn, seconds: float, attempt: int) -> None:
        """Where no other run has the key, 409 comes at once, and the next request runs."""
        orders = SteppedOrders(way, timeout=60, max_run=20)

        def overrun() -> str:
            claim = request_state(current_request()).claim
            assert claim is not None
            claim.sent -= 21
            claim.renewed -= 31
            orders.pass_time(seconds)
            return "reserved"

        orders.actions["reserve"] = [overrun]
        response = orders.post()
        assert problem(response) == (409, "in-progress")
        assert response.headers["Retry-After"] == "1"
        assert orders.calls == ["reserve"]
        assert orders.post().text.endswith(f"attempt {attempt}")

    def test_another_payload_has_it(self, orders: SteppedOrders) -> None:
        """Where another payload has the key in the meantime, the answer is 422."""

        def replace() -> str:
            orders.release(owner_may_run=True)
            assert orders.post(data=b"another").status_code == 200
            return "reserved"

        orders.actions["reserve"] = [replace]
        assert problem(orders.post()) == (422, "key-reused")

    def test_another_address_has_it(self, make_app: MakeApp) -> None:
        """A GET whose key another address has in the meantime does not run a second time."""
        store, runs = FaultyStore(), []
        app = make_app(store=store, methods=["GET"], timeout=0)

        def replace() -> None:
            store.delete(store.scan(""))
            assert post(app, path="/other", method="GET").text == "other"

        @app.get("/")
        def view() -> str:
            runs.append(1)
            step("replace", replace)
            return "view"

        app.add_url_rule("/other", "other", lambda: "other")
        assert problem(post(app, method="GET")) == (409, "in-progress")
        assert len(runs) == 1

    def test_held(self, way: WayIn) -> None:
        """Where a function has decided to hold the key in the meantime, the outcome is unknown."""
        orders = SteppedOrders(way, on_crash=lambda crash: "hold")

        def hold() -> str:
            orders.pass_time(31)
            assert problem(orders.post()) == (409, "outcome-unknown")
            return "reserved"

        orders.actions["reserve"] = [hold]
        assert problem(orders.post()) == (409, "outcome-unknown")
        assert orders.calls == ["reserve"]

    def test_store_fails(self, orders: SteppedOrders, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the store does not say who has the key, the answer is 503."""
        orders.lose_in("reserve")
        for error, slug in ((AWAY, "store-unavailable"), (DAMAGED, "record-unreadable")):
            monkeypatch.setattr(orders.store, "read", raising(error))
            orders.lose_in("reserve")
            assert problem(orders.post(key=slug)) == (503, slug)

    def test_caught(self, make_app: MakeApp) -> None:
        """What a view answers that catches it goes out, and is neither kept nor offered."""
        orders = SteppedOrders(WayIn("app-wide", make_app))
        orders.app.view_functions["order"] = catching(orders.app.view_functions["order"])
        orders.lose_in("reserve")
        assert orders.post().text == "it failed"
        orders.release()
        assert orders.post().text == "reserve 2, charge 1, mail 1; attempt 3"

    def test_broken_stream(self, make_app: MakeApp) -> None:
        """The marker of a stream that it has broken off is not kept either."""
        orders = SteppedOrders(WayIn("app-wide", make_app))
        view = orders.app.view_functions["order"]

        def streamed() -> Response:
            return Response(stream_with_context(iter_of(view)))

        orders.app.view_functions["order"] = streamed
        orders.lose_in("reserve")
        with pytest.raises(LeaseLost):
            orders.post()
        state_of(orders.app).engine.worker.pending.run()
        orders.release()
        assert orders.post().text == "reserve 2, charge 1, mail 1; attempt 3"

    def test_by_hand(self, make_app: MakeApp) -> None:
        """A view may raise it itself, when it sees that its claim is not held any more."""
        app = make_app(timeout=0)

        @app.post("/")
        def view() -> str:
            raise LeaseLost

        assert problem(post(app)) == (409, "in-progress")


def catching(view: Callable[[], Any]) -> Callable[[], Any]:
    def catch() -> Any:
        try:
            return view()
        except Exception:
            return "it failed"

    return catch


def iter_of(view: Callable[[], Any]) -> Iterator[Any]:
    yield view()
