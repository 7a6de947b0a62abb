"""Transactions that are interrupted, cannot be rolled back, or were committed by their view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import MakeApp
from tests.support.shop import Shop
from tests.support.transactions import ConnectionLost, raising


class TestInterrupted:
    """A web server's timeout, for example, which raises SystemExit in the middle of a run."""

    def test_in_the_view(self, shop: Shop) -> None:
        """In the view: it is rolled back, and the next request runs."""
        shop.answer = raising(SystemExit())
        with pytest.raises(SystemExit):
            shop.post()
        assert (shop.db.rows, shop.db.answers) == ([], {})
        shop.answer = lambda: "again"
        assert shop.post().text == "again"
        assert shop.db.rows == ["row 2"]

    def test_in_the_view_without_a_key(self, shop: Shop) -> None:
        """In the view, for a request without a key."""
        shop.answer = raising(SystemExit())
        with pytest.raises(SystemExit):
            shop.post(None)
        assert (shop.db.rows, shop.db.calls) == ([], ["begin", "roll_back"])

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_in_the_commit(self, shop: Shop, moment: str) -> None:
        """In the commit, carried out or not: released, and the rows are committed once."""
        getattr(shop.db, moment)["commit"].append(raising(SystemExit()))
        with pytest.raises(SystemExit):
            shop.post()
        assert shop.post().text == ("run 1" if moment == "after" else "run 2")
        assert len(shop.db.rows) == 1

    def test_in_the_look_up(self, shop: Shop) -> None:
        """In the look-up: released."""
        shop.db.before["look_up"].append(raising(SystemExit()))
        with pytest.raises(SystemExit):
            shop.post()
        assert shop.post().text == "run 1"

    def test_after_the_commit(self, shop: Shop) -> None:
        """When the store is completed: the next request gets the answer."""
        shop.store.before["complete"] = [raising(SystemExit())]
        with pytest.raises(SystemExit):
            shop.post()
        assert shop.post().text == "run 1"
        assert shop.db.rows == ["row 1"]

    def test_store_that_is_broken(self, make_app: MakeApp) -> None:
        """The same where a store of the application's own raises what it should not."""
        shop = Shop(make_app, timeout=0)
        shop.store.before["complete"] = [raising(ValueError())] * 2
        assert shop.post().status_code == 500
        assert shop.post().text == "run 1"
        assert shop.db.rows == ["row 1"]

    def test_in_begin(self, shop: Shop) -> None:
        """Before the view: released."""
        shop.db.before["begin"].append(raising(SystemExit()))
        with pytest.raises(SystemExit):
            shop.post()
        assert shop.post().text == "run 1"


class TestRollBackFails:
    def test_after_an_error(self, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
        """Rows that may not be rolled back are never committed with an error's answer."""
        shop.answer = raising(ValueError())
        shop.app.register_error_handler(ValueError, lambda error: ("refused", 422))
        shop.db.before["roll_back"] += [raising(ConnectionLost("gone"))] * 2
        assert shop.post().status_code == 500
        assert (shop.db.rows, shop.db.answers) == ([], {})
        assert "the view's transaction could not be rolled back: gone" in caplog.text

    def test_after_an_error_answer(self, shop: Shop) -> None:
        """The same is true of an error that the view returns."""
        shop.answer = lambda: ("no", 404)
        shop.db.before["roll_back"].append(raising(ConnectionLost("gone")))
        assert shop.post().status_code == 500
        assert (shop.db.rows, shop.db.answers) == ([], {})


class TestCommitsByItself:
    """A view that commits, although this is the library's part."""

    def commit(self, shop: Shop, *answer: Any) -> Callable[[], Any]:
        return lambda: (shop.db.commit_by_itself(), answer)[1]

    def test_success(self, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
        """Its success stays a success, the answer follows, and an ERROR names the view."""
        shop.answer = self.commit(shop, "ordered", 201)
        assert shop.post().text == "ordered"
        assert shop.db.rows == ["row 1"]
        assert shop.the_answer.record.body == b"ordered"
        (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert record.getMessage().startswith("order commits by itself, although it has transa")

    def test_failed_commit(self, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
        """It is reported once, also where the commit of its answer fails."""
        shop.answer = self.commit(shop, "ordered")
        shop.db.before["commit"].append(lambda: 1 / 0)
        shop.post()
        assert caplog.text.count("order commits by itself") == 1

    @pytest.mark.parametrize("key", ["key", None])
    def test_error(self, shop: Shop, key: str | None, caplog: pytest.LogCaptureFixture) -> None:
        """So does an error that it returns, with a key and without one."""
        shop.answer = self.commit(shop, "no", 404)
        assert shop.post(key).text == "no"
        assert shop.db.rows == ["row 1"]
        assert caplog.text.count("order commits by itself") == 1

    @pytest.mark.parametrize("key", ["key", None])
    def test_exception(self, shop: Shop, key: str | None, caplog: pytest.LogCaptureFixture) -> None:
        """An exception after its commit is reported too."""
        shop.answer = lambda: (shop.db.commit_by_itself(), raising(ValueError())())
        assert shop.post(key).status_code == 500
        assert caplog.text.count("order commits by itself") == 1

    def test_other_views(self, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
        """Nothing is reported of other views."""
        shop.post()
        shop.post(None)
        assert "commits by itself" not in caplog.text
