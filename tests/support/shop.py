"""A shop with one view, which writes a row into a database in memory at each run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from flask_idempotent.engine.transactions import Answer
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.records import CompletedRecord
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

    def other_run(self, **changes: Any) -> Callable[[], None]:
        """Make a function with which another run of the running key commits a row and an answer.

        :param changes: what its answer has besides this.
        """

        def commit() -> None:
            (storage_key,) = self.store.scan("")
            running = self.store.read(storage_key)
            assert running is not None
            record = CompletedRecord(
                b"other owner 1234", running.fingerprint, 2, 201, (), b"the other run", 1.0
            )
            self.db.rows.append("row of the other run")
            self.db.answers[storage_key] = Answer(
                storage_key, record._replace(**changes), self.db.now + 240_000
            )

        return commit

    @property
    def the_answer(self) -> Answer:
        """The one answer in the database."""
        (answer,) = self.db.answers.values()
        return answer
