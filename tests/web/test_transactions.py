"""Transactions: what a view writes is committed together with its answer, once for each key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from flask import Response, send_file, session

from flask_idempotent import current_claim
from flask_idempotent.records import CompletedRecord
from tests.conftest import MakeApp
from tests.support.clients import WayIn, post, problem, recorded
from tests.support.shop import Shop
from tests.support.transactions import MemoryTransaction


class TestFirstRequest:
    def test_committed_together(self, way: WayIn) -> None:
        """Rows and answer are committed in one transaction; the duplicate gets a replay, which
        asks the database nothing."""
        db, runs = MemoryTransaction(), count(1)
        app = way.app(transaction=db)

        @app.post("/")
        @way
        def view() -> tuple[str, int]:
            db.write("order")
            return f"run {next(runs)}", 201

        with recorded(app) as events:
            assert [post(app).text for _ in range(2)] == ["run 1"] * 2
        assert db.rows == ["order"]
        assert db.calls == ["look_up", "begin", "commit"]
        assert [name for name, _ in events] == ["claimed", "completed", "replayed"]

    def test_answer(self, shop: Shop) -> None:
        """The answer has what the store has: status, headers, body, and whose it is."""
        shop.answer = lambda: ("made", "201 Made", {"Location": "/orders/7", "Date": "now"})
        shop.post()
        (storage_key,) = shop.store.scan("")
        answer = shop.the_answer
        assert answer.storage_key == storage_key
        assert answer.ttl_ms == 240_000
        stored = shop.store.read(storage_key)
        assert isinstance(stored, CompletedRecord)
        assert answer.record == stored._replace(time=answer.record.time)
        assert answer.record.status == "201 Made"
        assert ("Location", "/orders/7") in answer.record.headers
        assert (answer.record.method, answer.record.endpoint) == ("POST", "order")

    def test_row_before_the_store(self, shop: Shop) -> None:
        """The store is completed when the database has committed, not before."""
        shop.db.before["commit"].append(lambda: shop.store.calls.append("commit"))
        shop.post()
        assert shop.store.calls == ["claim", "commit", "complete"]

    def test_claim_of_the_view(self, shop: Shop) -> None:
        """The view has a claim, whose owner is that of the answer."""
        shop.answer = lambda: f"{current_claim.owner} {current_claim.attempt}"
        assert shop.post().text == f"{shop.the_answer.record.owner.hex()} 1"

    def test_vary_by_cookie(self, shop: Shop) -> None:
        """The answer varies by the cookie where the view has used the session."""
        shop.answer = lambda: session.get("cart", "none")
        shop.post()
        shop.forget()
        assert shop.post().headers["Vary"] == "Cookie"


class TestDuplicate:
    def test_store_has_forgotten(self, shop: Shop) -> None:
        """A key that the store has forgotten gets its answer from the database, and the store
        has it again; nothing runs."""
        shop.post()
        shop.forget()
        with recorded(shop.app) as events:
            for _ in range(2):
                again = shop.post()
                assert (again.status_code, again.text) == (201, "run 1")
                assert again.headers["Idempotent-Replayed"] == "true"
        assert shop.db.rows == ["row 1"]
        assert shop.db.calls.count("look_up") == 2
        assert [name for name, _ in events] == ["completed", "replayed", "replayed"]

    def test_time_that_is_left(self, shop: Shop) -> None:
        """The store keeps such an answer for as long as the database does."""
        shop.post()
        shop.forget()
        shop.pass_time(200)
        shop.post()
        (storage_key,) = shop.store.scan("")
        (info,) = shop.store.inspect([storage_key])
        assert info.ttl_ms == 40_000
        shop.pass_time(41)
        assert shop.post().text == "run 2"
        assert shop.db.rows == ["row 1", "row 2"]

    def test_expired(self, shop: Shop) -> None:
        """An expired answer is that of another operation: the view runs, and replaces it."""
        shop.post()
        shop.pass_time(240)
        assert shop.post().text == "run 2"
        assert shop.the_answer.record.body == b"run 2"

    @pytest.mark.parametrize("status", [200, 404])
    def test_other_payload(self, shop: Shop, status: int) -> None:
        """Another payload gets 422 when the store has forgotten the first, again and again."""
        shop.answer = lambda: ("first", status)
        shop.post()
        shop.forget()
        with recorded(shop.app) as events:
            for _ in range(2):
                assert problem(shop.post(data=b"other")) == (422, "key-reused")
        assert [name for name, _ in events] == ["completed", "rejected", "rejected"]
        assert shop.post().text == "first"
        assert shop.runs == 1

    def test_first_answer_for_the_error_handler(self, make_app: MakeApp) -> None:
        """A handler of that 422 finds the first answer."""
        shop = Shop(make_app, scope=lambda request: "customer 1")
        shop.app.register_error_handler(422, lambda error: error.stored)
        shop.post()
        shop.forget()
        other = shop.post(data=b"other")
        assert (other.status_code, other.text) == (201, "run 1")

    def test_w5_get(self, make_app: MakeApp) -> None:
        """W5: a GET with the key of another request is served as if it carried none."""
        shop = Shop(make_app, methods=["GET", "POST"])
        shop.post()
        shop.forget()
        assert shop.post(method="GET").text == "run 2"
        assert shop.db.rows == ["row 1", "row 2"]
        assert len(shop.db.answers) == 1

    def test_attempt_never_goes_back(self, shop: Shop) -> None:
        """A store that begins to count again does not make the attempt number smaller."""
        shop.answer = lambda: ("no", 422)
        shop.post()
        ((storage_key, answer),) = shop.db.answers.items()
        record = answer.record._replace(attempt=7)
        shop.db.answers[storage_key] = answer._replace(record=record)
        shop.forget()
        shop.post()
        shop.answer = lambda: str(current_claim.attempt)
        assert shop.post(data=b"corrected").text == "8"


class TestCorrected:
    def test_c7_replaces_the_answer(self, shop: Shop) -> None:
        """C7: a corrected request runs, and its answer replaces the one that it corrects."""
        shop.answer = lambda: ("no amount", 422)
        shop.post(data=b"x")
        assert shop.post(data=b"x").text == "no amount"
        shop.answer = lambda: "ordered"
        assert shop.post(data=b"5").text == "ordered"
        assert shop.db.rows == ["row 2"]
        assert shop.the_answer.record.body == b"ordered"
        shop.forget()
        assert problem(shop.post(data=b"x")) == (422, "key-reused")
        assert shop.post(data=b"5").text == "ordered"

    def test_c7_after_the_store_has_forgotten(self, shop: Shop) -> None:
        """C7: the database knows what may be corrected, too."""
        shop.answer = lambda: ("no amount", 422)
        shop.post(data=b"x")
        shop.forget()
        shop.answer = lambda: "ordered"
        assert shop.post(data=b"5").text == "ordered"
        assert shop.the_answer.record.body == b"ordered"

    def test_f5_other_operation(self, shop: Shop) -> None:
        """F5: another method is not a correction."""
        shop.answer = lambda: ("no amount", 422)
        shop.post(data=b"x")
        shop.forget()
        assert problem(shop.post(data=b"5", method="PUT")) == (422, "key-reused")


class TestNotKept:
    """A status below 400 whose answer is not kept: the rows are committed without an answer."""

    @pytest.mark.parametrize("status", [206, 304, 307, 308])
    def test_by_its_status(self, shop: Shop, status: int) -> None:
        """R6: such an answer is not kept by the database either."""
        shop.answer = lambda: ("", status)
        with recorded(shop.app) as events:
            shop.post()
        assert (shop.db.rows, shop.db.answers) == (["row 1"], {})
        assert shop.db.calls == ["look_up", "begin", "commit without answer"]
        assert [(name, data.get("reason")) for name, data in events] == [
            ("claimed", None),
            ("released", "not-stored"),
        ]

    @pytest.mark.parametrize(
        "overrides", [{"dont_keep": [201]}, {"store_if": lambda response: False}]
    )
    def test_by_the_settings(self, make_app: MakeApp, overrides: dict[str, Any]) -> None:
        """An answer that the settings do not keep is not kept by the database either."""
        shop = Shop(make_app, **overrides)
        assert [shop.post().text for _ in range(2)] == ["run 1", "run 2"]
        assert (shop.db.rows, shop.db.answers) == (["row 1", "row 2"], {})

    def test_c8_released_by_the_view(self, shop: Shop) -> None:
        """C8: ``current_claim.release()`` says that nothing happened, so it is rolled back."""

        def give_up() -> str:
            current_claim.release()
            return "nothing to do"

        shop.answer = give_up
        with recorded(shop.app) as events:
            assert shop.post().text == "nothing to do"
        assert (shop.db.rows, shop.db.answers) == ([], {})
        assert shop.db.calls == ["look_up", "begin", "roll_back"]
        assert events[-1][1]["reason"] == "by-view"


class TestBodies:
    """A body that is not known at the commit, or too large: the answer says "not kept"."""

    def stream(self) -> Response:
        def chunks() -> Iterator[bytes]:
            yield b"a lot"
            yield b" of data"

        return Response(chunks())

    def test_streamed(self, shop: Shop) -> None:
        """The rows are committed before the stream begins; the store gets the whole body."""
        shop.answer = self.stream
        response = shop.post(buffered=False)
        assert (shop.db.rows, shop.the_answer.record.body) == (["row 1"], None)
        assert response.text == "a lot of data"
        assert shop.post().text == "a lot of data"
        shop.forget()
        assert problem(shop.post()) == (409, "response-not-kept")
        assert shop.runs == 1

    def test_file(self, shop: Shop) -> None:
        """A file is streamed."""
        shop.answer = lambda: send_file(__file__)
        shop.post()
        assert shop.the_answer.record.body is None
        assert shop.the_answer.record.status_code == 200

    def test_too_large(self, make_app: MakeApp) -> None:
        """A body over ``max_body`` is not kept anywhere, and its rows are committed once."""
        shop = Shop(make_app, max_body=3)
        assert shop.post().text == "run 1"
        shop.forget()
        assert problem(shop.post()) == (409, "response-not-kept")
        assert (shop.db.rows, shop.the_answer.record.body) == (["row 1"], None)

    def test_cannot_be_sent(self, shop: Shop) -> None:
        """So is a response that no server may send."""
        shop.answer = lambda: ("", 201, {"X-Name": "\N{SNOWMAN}"})
        shop.post()
        assert (shop.the_answer.record.status, shop.the_answer.record.body) == (201, None)
        assert problem(shop.post()) == (409, "response-not-kept")

    @pytest.mark.parametrize("make", [lambda: ("", 204), lambda: "", lambda: "x" * 10_000])
    def test_other_bodies(self, make_app: MakeApp, make: Callable[[], Any]) -> None:
        """No content, an empty body and a compressed one are replayed as they were."""
        shop = Shop(make_app, compress=1)
        shop.answer = make
        first = shop.post()
        shop.forget()
        again = shop.post()
        assert (again.status_code, again.data) == (first.status_code, first.data)
        assert shop.runs == 1
