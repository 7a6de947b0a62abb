"""Transactions of runs that died: what the database has is looked up before anything follows."""

from __future__ import annotations

import pytest

from flask_idempotent import current_claim
from flask_idempotent.errors import DatabaseUnavailable
from flask_idempotent.records import CompletedRecord
from tests.conftest import MakeApp
from tests.support.clients import problem, recorded
from tests.support.shop import Shop
from tests.support.transactions import raising


def die(shop: Shop, moment: str) -> None:
    """Let a run die before or after its commit, and its lease end.

    :param moment: ``"before"`` or ``"after"``.
    """
    shop.answer = lambda: f"run {shop.runs}, attempt {current_claim.attempt}"
    functions = shop.db.before if moment == "before" else shop.db.after
    functions["commit"].append(raising(SystemExit()))
    shop.store.is_deaf = True
    with pytest.raises(SystemExit):
        shop.post()
    shop.store.is_deaf = False
    shop.pass_time(31)


class TestTakeOver:
    """An owner dies between its commit and the store's."""

    @pytest.fixture
    def shop(self, make_app: MakeApp) -> Shop:
        """A shop whose first run dies; the store hears nothing of it."""
        return Shop(make_app, lease=30, timeout=0)

    def test_after_the_commit(self, shop: Shop) -> None:
        """The next request takes over, finds the answer and replays it: no view runs."""
        die(shop, "after")
        with recorded(shop.app) as events:
            assert [shop.post().text for _ in range(2)] == ["run 1, attempt 1"] * 2
        assert (shop.runs, shop.db.rows) == (1, ["row 1"])
        assert [name for name, _ in events] == ["completed", "replayed", "replayed"]

    def test_before_the_commit(self, shop: Shop) -> None:
        """Where it died before, the next request runs."""
        die(shop, "before")
        assert shop.post().text == "run 2, attempt 2"
        assert shop.db.rows == ["row 2"]


class TestHold:
    """``on_crash="hold"``: what happened is looked up before a key is held."""

    @pytest.fixture
    def shop(self, make_app: MakeApp) -> Shop:
        """A shop that holds the keys of runs that died."""
        return Shop(make_app, lease=30, timeout=0, on_crash="hold")

    def test_after_the_commit(self, shop: Shop) -> None:
        """The answer is there: it is replayed, and the store has it again as the dead run's."""
        die(shop, "after")
        with recorded(shop.app) as events:
            assert [shop.post().text for _ in range(2)] == ["run 1, attempt 1"] * 2
        assert [name for name, _ in events] == ["replayed", "replayed"]
        assert shop.db.calls.count("look_up") == 2
        stored = shop.store.read(shop.the_answer.storage_key)
        assert isinstance(stored, CompletedRecord)
        assert stored.owner == shop.the_answer.record.owner

    def test_before_the_commit(self, shop: Shop) -> None:
        """It is not there: nobody knows, and the key is held."""
        die(shop, "before")
        assert problem(shop.post()) == (409, "outcome-unknown")
        assert shop.runs == 1

    def test_store_fails(self, shop: Shop) -> None:
        """An answer that the store does not take now is replayed anyway."""
        die(shop, "after")
        shop.fail_store("complete")
        with recorded(shop.app) as events:
            assert shop.post().text == "run 1, attempt 1"
        assert [name for name, _ in events] == ["store_failed", "replayed"]

    def test_without_the_store(self, make_app: MakeApp) -> None:
        """The answer of a run that had no claim in the store is taken by it, too."""
        shop = Shop(make_app, lease=30, on_crash="hold", on_store_error="run")
        die(shop, "before")
        shop.fail_store("claim")
        shop.post()
        shop.heal_store()
        assert [shop.post().text for _ in range(2)] == ["run 2, attempt 0"] * 2

    def test_of_another_payload(self, shop: Shop) -> None:
        """An answer to another payload is a 422."""
        die(shop, "before")
        shop.other_run(fingerprint=b"another payload!")()
        assert problem(shop.post()) == (422, "key-reused")

    def test_that_is_to_be_corrected(self, shop: Shop) -> None:
        """The answer that the dead run was to correct says nothing of that run."""
        shop.answer = lambda: ("no", 422)
        shop.post(data=b"x")
        shop.answer = raising(SystemExit())
        shop.store.is_deaf = True
        with pytest.raises(SystemExit):
            shop.post(data=b"5")
        shop.store.is_deaf = False
        shop.pass_time(31)
        assert problem(shop.post(data=b"5")) == (409, "outcome-unknown")

    def test_database_unavailable(self, shop: Shop) -> None:
        """Where the database does not answer it is a 503, which may be retried."""
        die(shop, "after")
        shop.db.before["look_up"].append(raising(DatabaseUnavailable("away")))
        assert problem(shop.post()) == (503, "store-unavailable")
        assert shop.post().text == "run 1, attempt 1"
