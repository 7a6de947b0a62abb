"""Transactions of runs that overlap, die or come late: one commit for each key."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import pytest
from flask import Response
from werkzeug.test import TestResponse

from flask_idempotent import current_claim
from tests.conftest import MakeApp
from tests.support.clients import Gate, problem, recorded
from tests.support.faulty_store import FaultyStore
from tests.support.shop import Shop
from tests.support.transactions import (
    ConnectionLost,
    SerializationFailure,
    UniqueViolation,
    raising,
)

Background = Callable[..., Future[TestResponse]]


class TestAnotherRunCommits:
    """Another run commits between this one's look-up and its commit."""

    def test_its_answer_is_replayed(self, shop: Shop) -> None:
        """This run's rows and response are dropped, and the other's response is replayed."""
        closed: list[str] = []

        def answer() -> Response:
            response = Response("this run")
            response.call_on_close(lambda: closed.append("this run"))
            return response

        shop.answer = answer
        shop.db.before["commit"].append(shop.other_run())
        with recorded(shop.app) as events:
            for _ in range(2):
                response = shop.post()
                assert (response.status_code, response.text) == (201, "the other run")
                assert response.headers["Idempotent-Replayed"] == "true"
        assert shop.db.rows == ["row of the other run"]
        assert closed == ["this run"]
        assert [name for name, _ in events] == ["claimed", "completed", "replayed", "replayed"]

    def test_fingerprint(self, shop: Shop) -> None:
        """An answer to another payload is a 422, for later requests too."""
        shop.db.before["commit"].append(shop.other_run(fingerprint=b"another payload!"))
        with recorded(shop.app) as events:
            assert [problem(shop.post()) for _ in range(2)] == [(422, "key-reused")] * 2
        assert shop.db.rows == ["row of the other run"]
        assert [name for name, _ in events] == ["claimed", "completed", "rejected", "rejected"]

    def test_w5_get(self, make_app: MakeApp) -> None:
        """W5: a GET is served as if it carried no key, now that its own rows are rolled back."""
        shop = Shop(make_app, methods=["GET"])
        shop.db.before["commit"].append(shop.other_run(fingerprint=b"another payload!"))
        assert shop.post(method="GET").text == "run 2"
        assert shop.db.rows == ["row of the other run", "row 2"]

    def test_marker(self, shop: Shop) -> None:
        """A response of the other run that was not kept is a 409."""
        shop.db.before["commit"].append(shop.other_run(body=None))
        assert problem(shop.post()) == (409, "response-not-kept")

    def test_before_an_error_answer(self, shop: Shop) -> None:
        """An error answer gives way to an answer that is there already, too."""
        shop.answer = lambda: ("no", 404)
        shop.db.before["commit"].append(shop.other_run())
        assert shop.post().text == "the other run"

    def test_expired(self, shop: Shop) -> None:
        """An answer that has expired since counts as well: it is this key's only commit."""
        commit = shop.other_run()

        def commit_and_wait() -> None:
            commit()
            shop.db.now += 500_000

        shop.db.before["commit"].append(commit_and_wait)
        assert shop.post().text == "the other run"
        assert shop.db.rows == ["row of the other run"]

    def test_shows_as_another_error(self, shop: Shop) -> None:
        """A conflict may show as a serialization failure."""
        shop.db.before["commit"].append(shop.other_run())
        shop.db.after["commit"].append(raising(SerializationFailure()))
        assert shop.post().text == "the other run"


class TestCommitErrors:
    def test_reply_lost(self, shop: Shop) -> None:
        """A commit whose reply was lost is found by its owner: the response goes out."""
        shop.db.after["commit"].append(raising(ConnectionLost()))
        with recorded(shop.app) as events:
            response = shop.post()
        assert (response.status_code, response.text) == (201, "run 1")
        assert "Idempotent-Replayed" not in response.headers
        assert [name for name, _ in events] == ["claimed", "completed"]
        assert shop.db.calls == ["look_up", "begin", "commit", "roll_back", "look_up"]
        assert shop.db.rows == ["row 1"]

    def test_serialization_failure(self, shop: Shop) -> None:
        """With no answer there it is the view's own error: released, and a retry runs."""
        shop.db.before["commit"].append(raising(SerializationFailure()))
        assert shop.post().status_code == 500
        assert shop.db.rows == []
        assert shop.post().text == "run 2"

    def test_unique_violation_of_the_view(self, shop: Shop) -> None:
        """So is a constraint of the view's own rows."""
        shop.db.before["commit"].append(raising(UniqueViolation("orders.number")))
        shop.app.register_error_handler(UniqueViolation, lambda error: ("exists", 409))
        assert shop.post().text == "exists"

    def test_carried_out_late(self, shop: Shop) -> None:
        """A commit that seemed to fail and is carried out later, after an error handler has
        answered, is the key's all the same."""
        owners: list[bytes] = []

        def lose_connection() -> None:
            owners.append(bytes.fromhex(current_claim.owner))
            raise ConnectionLost

        shop.db.before["commit"] += [
            lose_connection,
            lambda: shop.other_run(owner=owners[0], body=b"run 1")(),
        ]
        shop.app.register_error_handler(ConnectionLost, lambda error: ("ask later", 409))
        assert [shop.post().text for _ in range(2)] == ["run 1", "run 1"]
        assert shop.runs == 1

    def test_of_a_run_that_replaces(self, shop: Shop) -> None:
        """The answer that is to be replaced is not that of another run."""
        shop.post()
        shop.pass_time(300)
        shop.db.before["commit"].append(raising(SerializationFailure()))
        assert shop.post().status_code == 500
        assert shop.post().text == "run 3"
        assert shop.db.rows == ["row 1", "row 3"]

    def test_replaced_by_another(self, shop: Shop) -> None:
        """An expired answer that another run has replaced meanwhile is not replaced again."""
        shop.post()
        shop.pass_time(300)
        shop.db.before["commit"].append(shop.other_run())
        assert shop.post().text == "the other run"
        assert shop.db.rows == ["row 1", "row of the other run"]


class TestLateOwner:
    @pytest.mark.parametrize("first_to_commit", ["late owner", "next owner"])
    def test_one_commit(
        self, make_app: MakeApp, background: Background, first_to_commit: str
    ) -> None:
        """Of an owner that was paused past its lease and the one that took over, one commits; both
        callers get its response."""
        shop, gates = Shop(make_app, lease=30), [Gate(), Gate()]

        def answer() -> str:
            attempt = current_claim.attempt
            gates[attempt - 1]()
            return f"attempt {attempt}"

        shop.answer = answer
        late = background(shop.post)
        gates[0].reached()
        shop.pass_time(31)
        next_one = background(shop.post)
        gates[1].reached()
        runs = [(gates[0], late), (gates[1], next_one)]
        winner = "attempt 1"
        if first_to_commit == "next owner":
            runs.reverse()
            winner = "attempt 2"
        texts = []
        for gate, run in runs:
            gate.open()
            texts.append(run.result().text)
        assert texts == [winner] * 2
        assert len(shop.db.rows) == 1
        assert shop.post().text == winner


class TestWaiters:
    def test_of_an_owner_that_conflicts(self, shop: Shop, background: Background) -> None:
        """A waiter gets the answer that the database has, like the owner."""
        gate = Gate()
        shop.answer = lambda: (gate(), "this run")[1]
        shop.db.before["commit"].append(shop.other_run())
        owner = background(shop.post)
        gate.reached()
        waiter = background(shop.post)
        assert isinstance(shop.store, FaultyStore)
        assert shop.store.listening.acquire(timeout=10)
        gate.open()
        assert [owner.result().text, waiter.result().text] == ["the other run"] * 2
        assert shop.runs == 1
