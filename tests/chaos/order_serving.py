"""The application that writes orders behind gunicorn, with servers that a test may break."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine, NullPool, create_engine, make_url, text

from tests.chaos.clients import Request, RetryingClients, send_all
from tests.chaos.history import History
from tests.chaos.notes import Note, read_notes
from tests.chaos.order_promises import (
    all_answered_by_view,
    one_answer_for_each_key,
    one_row_for_each_key,
)
from tests.chaos.order_tables import create_tables, orders_by_key
from tests.chaos.serving import Row, ServedApp, serve
from tests.support.databases import Database, DatabaseServer, sqlite_file
from tests.support.polling import until
from tests.support.proxy import Action, Fault, Proxy
from tests.support.redis_servers import Server
from tests.support.repeating import repeated

LEASE = 1.0
#: Points of a run at which a worker can be killed, and stopped while its transaction is open.
KILLED_AT = [
    "before-flush", "after-flush", "before-commit", "in-commit", "after-commit", "after-redis",
]  # fmt: skip
STOPPED_AT = ["after-flush", "before-commit"]
#: What the drivers send.
_COMMIT = {"postgresql": b"COMMIT\0", "mysql": b"\x03COMMIT"}


@dataclass
class OrderRow(Row):
    """One line of the table.

    :param several_rows: how many keys have several rows.
    :param several_answers: how many keys have several answers.
    """

    several_rows: int = 0
    several_answers: int = 0


@dataclass
class OrderApp:
    """The application behind gunicorn, its store, and its database.

    :param proxy: what stands before the database; None before a file of SQLite.
    :param engine: connects to the database without the proxy.
    """

    served: ServedApp
    store: Server
    database: Database
    proxy: Proxy | None
    engine: Engine

    def send(self, requests: list[Request], *, clients: int = 4) -> RetryingClients:
        """Send requests until they are answered."""
        return send_all(self.served.port, clients, requests)

    def strikes(self) -> list[Note]:
        """The workers that have killed or stopped themselves, and where."""
        return read_notes(self.served.folder, "strikes")

    def statuses(self, key: str) -> list[int]:
        """The statuses that the clients of a key were sent."""
        notes = read_notes(self.served.folder)
        return [
            note["status"] for note in notes if (note["event"], note.get("key")) == ("answer", key)
        ]

    def restart_store(self) -> None:
        """Start the store again, which keeps nothing."""
        self.store.kill()
        self.store.start()

    def evict_all(self) -> None:
        """Let the store evict all that it has, as if its memory was full."""
        self.store.client.config_set("maxmemory-policy", "allkeys-lru")
        self.store.client.config_set("maxmemory", 1)
        until(lambda: not self.store.client.dbsize())
        self.store.client.config_set("maxmemory", 0)
        self.store.client.config_set("maxmemory-policy", "noeviction")

    def restart_database(self) -> None:
        """Kill the database's server, and start it again with what it had."""
        assert self.database.server is not None
        self.database.server.kill()
        self.database.server.start()

    def commit_fault(self, action: Action) -> Fault:
        """Let something happen to the next COMMIT."""
        assert self.proxy is not None
        fault = Fault(_COMMIT[self.engine.dialect.name], action)
        self.proxy.faults.append(fault)
        return fault

    @contextmanager
    def database_away_after_commit(self) -> Iterator[None]:
        """Lose the reply to the next COMMIT, and let nobody connect to the database again."""
        assert self.proxy is not None
        fault = self.commit_fault("shut")
        yield
        # Its reply may not have come yet.
        fault.action = "lose reply"
        self.proxy.is_shut = False

    @contextmanager
    def without_primary_key(self) -> Iterator[None]:
        """Take the uniqueness of answers away; afterwards the tables are empty."""
        with self.engine.begin() as connection:
            connection.execute(
                text("ALTER TABLE idempotent_answers DROP CONSTRAINT idempotent_answers_pkey")
            )
        yield
        create_tables(self.engine)

    def check(self, name: str, clients: RetryingClients) -> OrderRow:
        """Count rows and answers of keys; the row holds what broke a promise."""
        answers = clients.answers
        row = OrderRow(f"{self.database.kind}: {name}", clients.sent, faults=clients.faults.total())
        runs = History(self.served.folder).runs
        row.runs = sum(len(runs[key]) for key in {answer.key for answer in answers})
        orders = orders_by_key(self.engine)
        all_answered_by_view(row, answers, clients.unanswered)
        row.several_rows = one_row_for_each_key(row, orders, answers)
        row.several_answers = one_answer_for_each_key(row, orders, answers)
        return row


def new_database(request: pytest.FixtureRequest, folder: Path) -> Database:
    """An empty database of the kind that a fixture's parameter names."""
    if request.param == "sqlite":
        return sqlite_file(folder)
    server: DatabaseServer = request.getfixturevalue(request.param)
    return server.new_database()


@contextmanager
def serve_orders(
    folder: Path, store: Server, database: Database, *arguments: str, **options: object
) -> Iterator[OrderApp]:
    """Serve the application with empty tables, behind a proxy before its database."""
    url = make_url(database.url)
    engine = create_engine(url, poolclass=NullPool)
    create_tables(engine)
    proxy = Proxy(url.port) if url.port else None
    if proxy is not None:
        url = url.set(port=proxy.port)
    options = {"IDEMPOTENT_LEASE": LEASE, "app": "tests.chaos.order_app:app", **options}
    address = url.render_as_string(hide_password=False)
    try:
        with serve(
            folder, store.url, *arguments, SQLALCHEMY_DATABASE_URI=address, **options
        ) as served:
            yield OrderApp(served, store, database, proxy, engine)
    finally:
        if proxy is not None:
            proxy.close()


@contextmanager
def continuing(app: OrderApp, seconds: float) -> Iterator[None]:
    """Let workers that stopped themselves continue after some seconds."""
    continued = {strike["key"] for strike in app.strikes()}

    def work() -> None:
        for strike in app.strikes():
            due = strike["action"] == "stop" and time.monotonic() > strike["time"] + seconds
            if due and strike["key"] not in continued:
                continued.add(strike["key"])
                with suppress(ProcessLookupError):
                    os.kill(strike["pid"], signal.SIGCONT)

    with repeated(work, 0.01):
        yield
