"""A view with ``transaction=``: whatever happens, a key has one row and one answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from tests.chaos.clients import Request, RetryingClients
from tests.chaos.history import History
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
from tests.support.databases import Database
from tests.support.polling import until
from tests.support.proxy import Action
from tests.support.redis_servers import Server, redis_binary

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

Background = Callable[..., Future[Any]]

DATABASES = ["postgresql", "sqlite", "mariadb"] if FULL else ["postgresql"]
COUNT = sized(20, 1)


@pytest.fixture(scope="module", params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """An empty database of each kind in turn."""
    return new_database(request, tmp_path_factory.mktemp("database"))


@pytest.fixture(scope="module")
def app(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrderApp]:
    """The application, with servers that this file's tests may break."""
    store = Server(redis_binary(), tmp_path_factory.mktemp("store")).start()
    with serve_orders(
        tmp_path_factory.mktemp("orders"),
        store,
        database,
        "--preload",
        workers=4,
        kind="sync",  # So that a worker that dies ends one run.
        IDEMPOTENT_ON_STORE_ERROR="run",
    ) as app:
        yield app
    store.stop()


def requests_named(name: str, path: str = "/orders/0", count: int = COUNT) -> list[Request]:
    return [Request(f"{name}-{number}", path) for number in range(count)]


class TestProcesses:
    """Workers that end or stop at a point of the view's transaction."""

    def test_killed(self, app: OrderApp) -> None:
        """A run that is killed at any point leaves one row and one answer."""
        requests = [
            request
            for point in KILLED_AT
            for request in requests_named(f"killed-{point}", f"/orders/0/kill/{point}")
        ]
        clients = app.send(requests * 2)
        row = app.check("killed at each point", clients)
        row.kills = len(requests)
        row.conclude()
        keys = {request.key for request in requests}
        assert {s["point"] for s in app.strikes() if s["key"] in keys} == set(KILLED_AT)

    @pytest.mark.parametrize("point", STOPPED_AT)
    def test_stopped(self, app: OrderApp, point: str, background: Background) -> None:
        """Of two runs that commit, because one was stopped past its lease, one has a row."""
        requests = requests_named(f"stopped-{point}", f"/orders/0/stop/{point}", sized(5, 1))
        clients = stop_and_continue(app, requests, background)
        row = app.check(f"stopped {point}, and continued", clients)
        row.kills = len(requests)
        row.conclude()
        runs = History(app.served.folder).runs
        assert all(len(runs[request.key]) > 1 for request in requests)


def stop_and_continue(
    app: OrderApp, requests: list[Request], background: Background
) -> RetryingClients:
    """Send requests whose worker stops itself past its lease, and again while it is stopped."""
    everything = app.send([])
    with continuing(app, 2.2 * LEASE):
        for request in requests:
            first = background(app.send, [request])
            until(lambda: any(s["key"] == request.key for s in app.strikes()))  # noqa: B023
            everything.absorb(app.send([request] * 2))
            everything.absorb(first.result())
    return everything


class TestRedis:
    """A store that forgets, or is not there."""

    def test_forgotten(self, app: OrderApp) -> None:
        """A key that Redis has lost since is answered from the database, and again from Redis."""
        requests = [
            *requests_named("forgotten", count=sized(50, 3)),
            *requests_named("forgotten-refused", "/refused/0", sized(50, 3)),
        ]
        clients = app.send(requests)
        for forget in (app.store.client.flushall, app.restart_store, app.evict_all):
            forget()
            assert not app.store.client.dbsize()
            clients.absorb(app.send(requests))
            assert app.store.client.dbsize() == len(requests)
        row = app.check("FLUSHALL, restart, eviction", clients)
        row.kills = 3
        row.require(row.runs == len(requests), f"{row.runs} runs for {len(requests)} keys")
        row.conclude()

    def test_dead(self, app: OrderApp) -> None:
        """Without Redis, and with ``on_store_error="run"``, a key has one row and one answer."""
        requests = requests_named("dead", "/orders/50", sized(50, 2))
        app.store.kill()
        clients = app.send(requests * 3)
        app.store.start()
        clients.absorb(app.send(requests))
        row = app.check('Redis dead, on_store_error="run"', clients)
        row.kills = 1
        row.conclude()


class TestConnections:
    """Connections to the database that break while it commits."""

    @pytest.fixture(autouse=True)
    def _has_connections(self, database: Database) -> None:
        if database.server is None:
            pytest.skip("a file has no connections")

    @pytest.mark.parametrize("action", ["cut before", "cut after", "lose reply"])
    def test_cut_in_commit(self, app: OrderApp, action: Action) -> None:
        """A COMMIT of which nobody hears leaves one row and one answer."""
        requests = requests_named(f"{action}".replace(" ", "-"), "/orders/0/slow/in-commit")
        clients = app.send([])
        for request in requests:
            app.commit_fault(action)
            clients.absorb(app.send([request]))
            clients.absorb(app.send([request]))
        row = app.check(f"COMMIT, {action}", clients)
        row.kills = len(requests)
        if action == "lose reply":
            row.require(row.runs == len(requests), "a run was not recognised in the database")
            row.require(not clients.faults, f"clients met faults: {clients.faults}")
        row.conclude()

    def test_away(self, app: OrderApp, background: Background) -> None:
        """Where the database is away after COMMIT was sent, the client learns to try again."""
        requests, proxy = requests_named("away"), app.proxy
        assert proxy is not None
        clients = app.send([])
        for request in requests:
            with app.database_away_after_commit():
                first = background(app.send, [request])
                until(lambda: proxy.is_shut, 30)
                until(lambda: 503 in app.statuses(request.key), 30)  # noqa: B023
            clients.absorb(first.result())
        row = app.check("database away after COMMIT", clients)
        row.kills = len(requests)
        row.require(row.runs == len(requests), "a run was not recognised in the database")
        assert clients.faults["503"] >= len(requests)
        row.conclude()


class TestBroken:
    """The checks themselves."""

    @pytest.mark.parametrize("database", ["postgresql"], indirect=True)
    def test_without_primary_key(self, app: OrderApp, background: Background) -> None:
        """They find keys with two rows and two answers where nothing keeps answers unique."""
        requests = requests_named("broken", "/orders/0/stop/after-flush", sized(5, 1))
        with app.without_primary_key():
            clients = stop_and_continue(app, requests, background)
            row = app.check("no primary key", clients)
        several = row.several_rows, row.several_answers
        row.test += ", caught: {} keys with two rows, {} with two answers".format(*several)
        row.kills = len(requests)
        row.violations.clear()
        row.conclude()
        assert several == (len(requests), len(requests))
