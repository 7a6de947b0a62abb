"""A shop with one view, which writes a row into a database in memory at each run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from flask_idempotent.engine.transactions import Answer
from flask_idempotent.errors import StoreUnavailable
from tests.support.clients import post
from tests.support.faulty_store import FaultyStore, fail
from tests.support.transactions import MemoryTransaction


class Shop:
    """An application with one view, its store and its database.

    :param make_app: the fixture.
    :param overrides: keywords of the extension, besides ``transaction``.
    """

    def __init__(self, make_app: Callable[..., Flask], **overrides: Any) -> None:
        self.db = MemoryTransaction()
        self.store = FaultyStore()
        self.app = make_app(store=self.store, transaction=self.db, **overrides)
        self.runs = 0
        #: What each run does after it has written its row.
        self.answer: Callable[[], Any] = lambda: (f"run {self.runs}", 201)
        self.app.add_url_rule("/", "order", self._order, methods=["GET", "POST", "PUT"])

    def _order(self) -> Any:
        self.runs += 1
        self.db.write(f"row {self.runs}")
        return self.answer()

    def post(self, key: str | None = "key-one", **options: Any) -> TestResponse:
        return post(self.app, key, **options)

    def forget(self) -> None:
        """Let the store lose every record."""
        self.store.delete(self.store.scan(""))

    def fail_store(self, method: str) -> None:
        """Let a method of the store fail until ``heal_store``."""
        self.store.before[method] = [fail(StoreUnavailable("down"))] * 50

    def heal_store(self) -> None:
        self.store.before.clear()

    def pass_time(self, seconds: float) -> None:
        """Let time pass for the store and the database."""
        self.store.clock.now += seconds  # type: ignore[attr-defined]
        self.db.now += round(seconds * 1000)

    @property
    def the_answer(self) -> Answer:
        """The one answer in the database."""
        (answer,) = self.db.answers.values()
        return answer
