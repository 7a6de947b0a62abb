"""Fixtures: servers, stores, applications, and a check that nothing is left behind."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import settings

from flask_idempotent import Idempotent, _timing
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.web.state import EXTENSION_KEY
from tests.support.clients import WayIn
from tests.support.databases import (
    Database,
    DatabaseServer,
    MariaDBServer,
    PostgreSQLServer,
    sqlite_file,
)
from tests.support.proxy import Proxy
from tests.support.redis_fleets import Cluster
from tests.support.redis_servers import (
    OLD_REDIS,
    Server,
    old_redis_binary,
    redis_binary,
    valkey_binary,
)
from tests.support.sentinel_sets import SentinelSet

MakeApp = Callable[..., Flask]

# How long an example takes depends on the machine and says nothing about the library.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


@pytest.fixture(scope="module", autouse=True)
def _frozen_heap() -> None:
    """Exclude what exists before a file's tests from garbage collection.

    Looking through all of it takes half a second, in each test that collects or looks for
    references.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded package's Valkey, for the whole session; ``clean_valkey`` empties it first."""
    server = Server(valkey_binary(), tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Debian's redis-server, for the whole session; skipped where it is missing."""
    server = Server(redis_binary(), tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def old_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Redis 6.2, for the whole session; skipped where it is missing."""
    server = Server(old_redis_binary(), tmp_path_factory.mktemp("old")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQLServer]:
    """Debian's PostgreSQL, for the whole session; skipped where it is missing."""
    server = PostgreSQLServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDBServer]:
    """Debian's MariaDB, for the whole session; skipped where it is missing."""
    server = MariaDBServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """Each kind of database in turn, empty; with ``indirect`` those that a test names."""
    if request.param == "sqlite":
        return sqlite_file(tmp_path)
    server: DatabaseServer = request.getfixturevalue(request.param)
    return server.new_database()


@pytest.fixture(scope="session")
def valkey_sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSet]:
    """A primary, two replicas and three Sentinels of Valkey, for the whole session."""
    with SentinelSet(valkey_binary(), tmp_path_factory.mktemp("sentinels")) as sentinels:
        yield sentinels


@pytest.fixture(scope="session")
def redis_sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSet]:
    """The same of Debian's redis-server; skipped where it is missing."""
    with SentinelSet(redis_binary(), tmp_path_factory.mktemp("sentinels")) as sentinels:
        yield sentinels


#: Those of Redis in the long form only: each set is six or seven processes.
SENTINELS = {"valkey sentinels": "valkey_sentinels"}
if os.environ.get("CHAOS") == "full":
    SENTINELS["redis sentinels"] = "redis_sentinels"


@pytest.fixture(scope="session")
def valkey_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Six nodes of the embedded package's Valkey, for the whole session."""
    cluster = Cluster(valkey_binary(), tmp_path_factory.mktemp("valkey-cluster"))
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Six nodes of Debian's redis-server, for the whole session; skipped where it is missing."""
    cluster = Cluster(redis_binary(), tmp_path_factory.mktemp("redis-cluster"))
    try:
        yield cluster.start()
    finally:
        cluster.stop()


CLUSTERS = {"valkey cluster": "valkey_cluster"}
if os.environ.get("CHAOS") == "full":
    CLUSTERS["redis cluster"] = "redis_cluster"

SERVERS = {"valkey": "valkey", "redis": "redis_server", "old redis": "old_redis"}


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each real server of today in turn, empty; with ``indirect`` any of ``SERVERS``."""
    server: Server = request.getfixturevalue(SERVERS[request.param])
    server.client.flushall()
    return server


@pytest.fixture
def clean_valkey(valkey: Server) -> Server:
    """A real server, empty."""
    valkey.client.flushall()
    return valkey


#: A server before Redis 7.0: a real one, or where there is none today's behind a proxy.
OLD_SERVER = "old redis" if OLD_REDIS.exists() else "old by proxy"


#: Redis 7 only in the long form. What stores see of it is what the older and the newer server do;
#: the fixture ``server`` has it always.
REDIS = ["redis"] if os.environ.get("CHAOS") == "full" else []


@pytest.fixture(params=["memory", "valkey", *REDIS, OLD_SERVER, *SENTINELS, *CLUSTERS])
def store(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InspectableStore]:
    """Each store in turn, empty."""
    if request.param == "memory":
        store: InspectableStore = MemoryStore()
    elif request.param == "old by proxy":
        proxy: Proxy = request.getfixturevalue("proxy")
        proxy.refuse_nx_with_get()
        store = open_store(proxy.url, "tests")
    elif request.param in SENTINELS:
        sentinels: SentinelSet = request.getfixturevalue(SENTINELS[request.param])
        sentinels.primary.client.flushall()
        # However slow this machine is, the Sentinels say in time where the primary is.
        monkeypatch.setattr(_timing, "SENTINEL_WITHIN", 10.0)
        store = open_store(sentinels.url, "tests")
    elif request.param in CLUSTERS:
        cluster: Cluster = request.getfixturevalue(CLUSTERS[request.param])
        cluster.flush()
        # However slow this machine is, the nodes say in time which slots they have.
        monkeypatch.setattr(_timing, "MOVE_WITHIN", 10.0)
        store = open_store(cluster.url, "tests")
    else:
        server: Server = request.getfixturevalue(SERVERS[request.param])
        server.client.flushall()
        store = open_store(server.url, "tests")
    yield store
    store.close()


@pytest.fixture
def make_app() -> Iterator[MakeApp]:
    """Makes applications, and closes their engines when the test is over.

    ``make_app(wide=True, store=None, config={...}, **overrides)``: protected app-wide with the
    overrides, or not at all, for views that are decorated. The default store is memory://.
    """
    made: list[Flask] = []

    def make(
        *,
        wide: bool = True,
        store: object = None,
        config: dict[str, Any] | None = None,
        name: str = "tests",
        **overrides: Any,
    ) -> Flask:
        app = Flask(name)
        app.config.update(REDIS_URL="memory://", TESTING=False, SECRET_KEY="only for tests")
        app.config.update(config or {})
        if wide:
            Idempotent(app, store=store, **overrides)
        made.append(app)
        return app

    yield make
    for app in made:
        if EXTENSION_KEY in app.extensions and app.extensions[EXTENSION_KEY].has_engine:
            app.extensions[EXTENSION_KEY].engine.close()


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread of the library running."""
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and t.name.startswith("flask-idem")]
    for thread in left:
        thread.join(10)  # It may have ended by itself, and be about to leave the interpreter.
    left = [thread for thread in left if thread.is_alive()]
    assert not left, f"the test left {left} behind"


@pytest.fixture
def proxy(clean_valkey: Server) -> Iterator[Proxy]:
    """A proxy before a real, empty server, which breaks connections as a test says."""
    proxy = Proxy(clean_valkey.port)
    yield proxy
    proxy.close()


@pytest.fixture(params=["decorated", "app-wide", "both"])
def way(request: pytest.FixtureRequest, make_app: MakeApp) -> WayIn:
    """Each way to protect a view in turn."""
    return WayIn(request.param, make_app)


@pytest.fixture
def background() -> Iterator[Callable[..., Future[Any]]]:
    """Runs a function in another thread."""
    with ThreadPoolExecutor(64) as pool:
        yield pool.submit
