"""What these tests share: a store on each real server, and a frozen wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.store import RedisStore
from tests.conftest import SERVERS
from tests.stores.redis.helpers import opened
from tests.support.fake_sentinels import FakeSentinel
from tests.support.proxy import Proxy
from tests.support.redis_servers import Server

MakeSentinel = Callable[..., FakeSentinel]
MakeClient = Callable[..., Client]


@pytest.fixture(autouse=True)
def _wall_clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline uses the wall clock, which may be adjusted at any time."""
    monkeypatch.setattr(time, "time", lambda: 1e9)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    """Each real server in turn, old ones too, empty."""
    server: Server = request.getfixturevalue(SERVERS[request.param])
    server.client.flushall()
    return server


@pytest.fixture
def redis_store(server: Server) -> Iterator[RedisStore]:
    """A store on each real server in turn, empty."""
    with opened(server.url) as store:
        yield store


@pytest.fixture(params=["one server", "Sentinel"])
def store_behind_proxy(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[RedisStore]:
    """A store on a server behind a proxy, at its address and as a Sentinel's primary."""
    sentinel = FakeSentinel(proxy.port)
    one = request.param == "one server"
    url = proxy.url if one else f"redis+sentinel://127.0.0.1:{sentinel.port}/shop"
    with opened(url) as store:
        yield store
    sentinel.close()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Client]:
    """A client of a server behind a proxy."""
    client = Client.from_url(proxy.url)
    yield client
    client.close()


@pytest.fixture
def make_sentinel() -> Iterator[MakeSentinel]:
    """Makes Sentinels that name any port: ``make_sentinel(port, epoch, password)``."""
    made = []

    def make(port: int | None, *options: Any) -> FakeSentinel:
        made.append(FakeSentinel(port, *options))
        return made[-1]

    yield make
    for sentinel in made:
        sentinel.close()


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    """Makes clients of Sentinels, or of ports without one: ``make_client(*sentinels)``."""
    made = []

    def make(*sentinels: FakeSentinel | int, options: str = "") -> Client:
        ports = [s if isinstance(s, int) else s.port for s in sentinels]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        made.append(Client.from_url(f"redis+sentinel://{hosts}/shop{options}"))
        return made[-1]

    yield make
    for client in made:
        client.close()
