"""What the tests of the Redis store share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from flask_idempotent.stores.base import ClaimResult, ContendResult
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.store import RedisStore
from tests.stores.harness import HOUR, running

KEY = "IDEMPOTENT_{redis}"


def claim(store: RedisStore, name: str = "ada", key: str = KEY) -> ClaimResult:
    return store.claim(key, running(name), ttl_ms=2 * HOUR)


def contend(store: RedisStore, name: str = "ada", key: str = KEY) -> ContendResult:
    return store.contend(key, running(name), ttl_ms=2 * HOUR, takeover=True)


@contextmanager
def opened(url: str) -> Iterator[RedisStore]:
    """Open a store at an address, and close it at the end."""
    store = open_store(url, "tests")
    assert isinstance(store, RedisStore)
    with closing(store):
        yield store


def port_of(client: Client) -> int:
    """The port of the server that a client's commands reach."""
    return int(client.execute("CONFIG", "GET", "port")[1])
