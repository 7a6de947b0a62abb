"""Faults at random while many clients order: no key has two rows, and none has two answers."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.order_serving import (
    KILLED_AT,
    LEASE,
    STOPPED_AT,
    OrderApp,
    continuing,
    new_database,
    serve_orders,
)
from tests.chaos.serving import FULL, sized
from tests.chaos.storms import Storm
from tests.support.databases import Database, PostgreSQLServer
from tests.support.polling import until
from tests.support.redis_servers import Server, redis_binary

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

#: Each database, and the application's settings. One that is killed must have written each commit.
CASES: dict[str, tuple[str, dict[str, object]]] = {
    "scoped_session": ("postgresql", {}),
    "SERIALIZABLE": (
        "postgresql", {"SQLALCHEMY_ENGINE_OPTIONS": {"isolation_level": "SERIALIZABLE"}}
    ),
    "database killed": ("durable", {}),
    "Flask-SQLAlchemy": ("sqlite", {"FLASK_SQLALCHEMY": True}),
    "transaction begun before the view": (
        "mariadb", {"FLASK_SQLALCHEMY": True, "LOADS_USER": True}
    ),
}  # fmt: skip
SECONDS = sized(30, 2)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param != "durable":
        yield new_database(request, tmp_path)
        return
    server = PostgreSQLServer(durable=True)
    server.start()
    yield server.new_database()
    server.stop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    """A store that may be broken."""
    server = Server(redis_binary(), tmp_path).start()
    yield server
    server.stop()


class Faults:
    """What happens at random.

    :param app: the application, with its servers.
    :param storm: the clients.
    :param dice: chooses.
    """

    def __init__(self, app: OrderApp, storm: Storm, dice: random.Random) -> None:
        self._app, self._storm, self._dice = app, storm, dice
        self.count = 0
        self._faults: list[Callable[[], object]] = [
            self._kill, self._stop, app.store.client.flushall, app.restart_store, app.evict_all,
            self._store_dead,
        ]  # fmt: skip
        if app.proxy is not None:
            self._faults += [self._break_commits, app.proxy.cut_all, self._database_away]
        if app.database.server is not None and app.database.server.durable:
            self._faults.append(app.restart_database)

    def happen(self) -> None:
        """Let one fault after the other happen for ``SECONDS``."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            threading.Event().wait(self._dice.uniform(0.1, 0.5))
            self._dice.choice(self._faults)()
            self.count += 1

    def _worker(self) -> int:
        workers: list[int] = []

        def look() -> list[int]:
            workers[:] = self._app.served.workers()
            return workers

        until(look)
        return self._dice.choice(workers)

    def _kill(self) -> None:
        self._app.served.strike(self._worker(), signal.SIGKILL)

    def _stop(self) -> None:
        strike = self._app.served.strike(self._worker(), signal.SIGSTOP)
        threading.Event().wait(self._dice.uniform(1.1, 2) * LEASE)
        with suppress(ProcessLookupError):
            os.kill(strike.pid, signal.SIGCONT)

    def _store_dead(self) -> None:
        self._app.store.kill()
        threading.Event().wait(self._dice.uniform(0.2, 1.5))
        self._app.store.start()

    def _break_commits(self) -> None:
        for _ in range(self._dice.randint(1, 5)):
            self._app.commit_fault(self._dice.choice(["cut before", "cut after", "lose reply"]))

    def _database_away(self) -> None:
        with self._app.database_away_after_commit():
            threading.Event().wait(self._dice.uniform(0.2, 1.0))


def path(dice: random.Random) -> str:
    """Where a key is sent: often to a view that a worker does not survive."""
    milliseconds = dice.choice([0, 0, 20, 100, 300])
    chance = dice.random()
    if chance < 0.1:
        return f"/orders/{milliseconds}/kill/{dice.choice(KILLED_AT)}"
    if chance < 0.13:
        return f"/orders/{milliseconds}/stop/{dice.choice(STOPPED_AT)}"
    if chance < 0.2:
        return f"/orders/{milliseconds}/slow/in-commit"
    return f"/refused/{milliseconds}" if chance < 0.3 else f"/orders/{milliseconds}"


@pytest.mark.parametrize("on_store_error", ["run", "reject"] if FULL else ["run"])
@pytest.mark.parametrize(
    ("database", "case"),
    [(CASES[case][0], case) for case in (CASES if FULL else ["Flask-SQLAlchemy"])],
    indirect=["database"],
)
def test_faults_at_random(
    database: Database, store: Server, tmp_path: Path, case: str, on_store_error: str
) -> None:
    """Under load and any faults each key has one row and one answer."""
    settings = {**CASES[case][1], "IDEMPOTENT_ON_STORE_ERROR": on_store_error}
    with (
        serve_orders(
            tmp_path, store, database, "--preload", workers=sized(4, 3), threads=4, **settings
        ) as app,
        continuing(app, 1.5 * LEASE),
    ):
        name = f"{case}, on_store_error={on_store_error!r}"
        storm = Storm(app.served, sized(24, 8), f"{database.kind}-{on_store_error}")
        faults = Faults(app, storm, random.Random(name))
        storm.during(faults.happen, path)
        storm.clients.absorb(storm.sweep)
        row = app.check(f"faults at random, {name}", storm.clients)
        row.kills = faults.count + len(app.strikes())
        row.conclude()
