"""Transactions of requests that claim nothing in the store: without a key, or without a store."""

from __future__ import annotations

from itertools import count

import pytest
from flask import Response

from flask_idempotent import current_claim
from tests.conftest import MakeApp
from tests.support.clients import WayIn, post, problem
from tests.support.shop import Shop
from tests.support.transactions import MemoryTransaction


class TestWithoutKey:
    def test_committed(self, way: WayIn) -> None:
        """A request without a key is committed, without an answer, and costs the store nothing."""
        shop_db, runs = MemoryTransaction(), count(1)
        app = way.app(transaction=shop_db)

        @app.post("/")
        @way
        def view() -> tuple[str, int]:
            shop_db.write("order")
            return f"run {next(runs)}", 201

        answers = [post(app, None) for _ in range(2)]
        assert [(answer.status_code, answer.text) for answer in answers] == [
            (201, "run 1"),
            (201, "run 2"),
        ]
        assert shop_db.rows == ["order", "order"]
        assert shop_db.calls == ["begin", "commit without answer"] * 2
        assert not app.extensions["idempotent"].has_engine

    @pytest.mark.parametrize("status", [400, 404, 500])
    def test_error_answer(self, shop: Shop, status: int) -> None:
        """A status of 400 and above is rolled back."""
        shop.answer = lambda: ("no", status)
        assert shop.post(None).status_code == status
        assert shop.db.rows == []
        assert shop.db.calls == ["begin", "roll_back"]

    def test_exception(self, shop: Shop) -> None:
        """An exception is rolled back before the application's error handlers run."""

        def fail() -> str:
            raise ValueError

        shop.answer = fail
        shop.app.register_error_handler(
            ValueError, lambda error: (shop.db.commit_by_itself(), ("handled", 400))[1]
        )
        assert shop.post(None).text == "handled"
        assert shop.db.rows == []

    def test_failed_commit(self, shop: Shop) -> None:
        """A commit that fails is the view's own error, and is rolled back."""
        shop.db.before["commit without answer"].append(lambda: 1 / 0)
        shop.app.register_error_handler(ZeroDivisionError, lambda error: ("failed", 500))
        assert shop.post(None).text == "failed"
        assert shop.db.calls == ["begin", "commit without answer", "roll_back"]
        assert shop.db.rows == []

    def test_required(self, make_app: MakeApp) -> None:
        """Where a key is required, such a request does not reach the database."""
        shop = Shop(make_app, required=True)
        assert problem(shop.post(None)) == (400, "key-missing")
        assert shop.db.calls == []

    def test_untracked(self, shop: Shop) -> None:
        """A method that is not tracked is left alone, with a key and without one."""
        assert shop.post("key", method="GET").text == "run 1"
        assert shop.post(None, method="GET").text == "run 2"
        assert (shop.db.rows, shop.db.calls) == ([], [])


class TestStoreFails:
    def test_run(self, make_app: MakeApp) -> None:
        """With ``on_store_error="run"`` the database alone ensures that a key commits once; the
        view has a claim with attempt 0."""
        shop = Shop(make_app, on_store_error="run")
        shop.answer = lambda: f"{current_claim.key}, {current_claim.attempt}, {current_claim.held}"
        shop.fail_store("claim")
        answers = [shop.post() for _ in range(2)]
        assert [answer.text for answer in answers] == ["key-one, 0, True"] * 2
        assert "Idempotent-Replayed" in answers[1].headers
        assert shop.db.rows == ["row 1"]
        assert "complete" not in shop.store.calls
        assert problem(shop.post(data=b"other")) == (422, "key-reused")

    def test_reject(self, shop: Shop) -> None:
        """With ``"reject"`` the database is not asked."""
        shop.fail_store("claim")
        assert problem(shop.post()) == (503, "store-unavailable")
        assert shop.db.calls == []

    def test_back_again(self, make_app: MakeApp) -> None:
        """Once the store is back it gets the answer of such a run from the database."""
        shop = Shop(make_app, on_store_error="run")
        shop.fail_store("claim")
        shop.post()
        shop.heal_store()
        assert [shop.post().text for _ in range(2)] == ["run 1"] * 2
        assert shop.db.calls.count("look_up") == 2

    def test_failing_view(self, make_app: MakeApp) -> None:
        """A view that fails then is rolled back, and the next request runs."""
        shop = Shop(make_app, on_store_error="run")
        shop.fail_store("claim")
        shop.answer = lambda: 1 / 0
        assert shop.post().status_code == 500
        shop.answer = lambda: "again"
        assert shop.post().text == "again"
        assert shop.db.rows == ["row 2"]

    def test_not_completed(self, shop: Shop) -> None:
        """A response that the store does not take goes out, and the database has it."""
        shop.fail_store("complete")
        assert shop.post().text == "run 1"
        shop.heal_store()
        shop.forget()
        assert shop.post().text == "run 1"
        assert shop.db.rows == ["row 1"]

    def test_stream_without_a_store(self, make_app: MakeApp) -> None:
        """A stream that is dropped then writes nothing to the store."""
        shop = Shop(make_app, on_store_error="run")
        shop.fail_store("claim")
        shop.answer = lambda: Response(iter(["a", "b"]))
        shop.post(buffered=False).close()
        assert "complete" not in shop.store.calls
        assert shop.the_answer.record.body is None
