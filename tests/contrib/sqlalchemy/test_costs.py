"""The statements that a transaction sends besides the view's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event

from flask_idempotent import idempotent
from flask_idempotent.stores.memory import MemoryStore
from tests.conftest import MakeApp
from tests.contrib.sqlalchemy.shops import Shop
from tests.support.clients import post


def shape(statement: str) -> str:
    """The first words of a statement, and its condition."""
    what, _, condition = " ".join(statement.split()).partition(" WHERE ")
    words = " ".join(what.split()[:3])
    return f"{words} WHERE {condition.partition(' = ')[0]}" if condition else words


class Requests:
    """Requests to a view that writes a row, and the statements that they send."""

    def __init__(self, app: Flask, shop: Shop, store: MemoryStore) -> None:
        self._app = app
        self._shop = shop
        self._store = store
        self._runs = 0
        app.add_url_rule("/", "create", idempotent(self._create), methods=["POST"])

    def _create(self) -> tuple[str, int]:
        self._runs += 1
        self._shop.write(f"product {self._runs}")
        return "created", 201

    def lose_records(self) -> None:
        self._store.delete(self._store.scan(""))

    def statements(self, key: str | None = "key-one") -> list[str]:
        """Send a request; return its statements, but for the settings of the connection."""
        sent: list[str] = []
        with self._noting(sent):
            assert post(self._app, key).status_code == 201
        settings = ("SET ", "PRAGMA ")
        return [statement for statement in sent if not statement.startswith(settings)]

    @contextmanager
    def _noting(self, sent: list[str]) -> Iterator[None]:
        def note(_: Any, __: Any, statement: str, *___: Any) -> None:
            sent.append(shape(statement))

        event.listen(self._shop.engine, "before_cursor_execute", note)
        try:
            yield
        finally:
            event.remove(self._shop.engine, "before_cursor_execute", note)


@pytest.fixture
def requests(make_app: MakeApp, shop: Shop) -> Requests:
    """A view of an application whose database is each kind in turn."""
    store = MemoryStore()
    app = make_app(store=store, transaction=shop.transaction)
    app.teardown_appcontext(lambda _: shop.session.remove())
    requests = Requests(app, shop, store)
    # The first request of an engine also asks for its version, and whether it commits by itself.
    post(app, "first")
    return requests


LOOK_UP = (
    "SELECT idempotent_answers.storage_key, idempotent_answers.fingerprint, "
    "WHERE idempotent_answers.storage_key"
)
OWN, ANSWER = "INSERT INTO orders", "INSERT INTO idempotent_answers"


class TestStatements:
    def test_first(self, requests: Requests) -> None:
        """A first request looks up by the primary key, and inserts one row, the last of all."""
        assert requests.statements() == [LOOK_UP, OWN, ANSWER]

    def test_replay(self, requests: Requests) -> None:
        """A replay that the store answers sends nothing."""
        requests.statements()
        assert requests.statements() == []

    def test_replay_after_a_loss(self, requests: Requests) -> None:
        """Once the store has lost the record, one look-up, and none for the next replay."""
        requests.statements()
        requests.lose_records()
        assert [requests.statements(), requests.statements()] == [[LOOK_UP], []]

    def test_no_key(self, requests: Requests) -> None:
        """A request without a key sends the view's own."""
        assert requests.statements(None) == [OWN]
