"""Objects that are given as store=: stores, redis-py clients, and what is refused."""

from __future__ import annotations

import fakeredis
import pytest
import redis
import redis.asyncio
from redis.sentinel import Sentinel

from flask_idempotent.errors import SettingsError
from flask_idempotent.stores.factory import (
    adopt_store,
)
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.stores.redis.store import RedisStore


class TestAdoptStore:
    def test_store(self) -> None:
        """A store is used as it is."""
        store = MemoryStore()
        assert adopt_store(store) is store

    def test_redis_client(self) -> None:
        """A redis-py client becomes a Redis store that connects in the same way."""
        client = redis.Redis(host="127.0.0.1", port=1, db=4)
        store = adopt_store(client)
        assert isinstance(store, RedisStore)
        assert "127.0.0.1:1/4" in repr(store._client)
        store.close()
        client.close()

    @pytest.mark.parametrize("wrong", ["redis://host", 5, None, object(), MemoryStore])
    def test_neither(self, wrong: object) -> None:
        """Anything else is an error that says what is expected."""
        with pytest.raises(SettingsError, match=r"must be a store \(.*stores\.base\.Store\) or "):
            adopt_store(wrong)

    @pytest.mark.parametrize(
        "client",
        [
            fakeredis.FakeRedis(),
            fakeredis.FakeRedis.from_url("redis://host"),
            fakeredis.FakeServer(),
        ],
    )
    def test_fakeredis(self, client: object) -> None:
        """A client that only looks like redis-py's is refused; the error says what tests use."""
        with pytest.raises(
            SettingsError,
            match=r"not fakeredis\.Fake.* memory:// or the pytest fixture idempotency",
        ):
            adopt_store(client)

    def test_other_clients(self) -> None:
        """A client of another library is refused, and the error says how to set the address."""
        with pytest.raises(
            SettingsError, match=r"not redis\.asyncio\.Redis.* set IDEMPOTENT_REDIS_URL"
        ):
            adopt_store(redis.asyncio.Redis())

    def test_sentinel(self) -> None:
        """For a Sentinel the error says what to take of it."""
        with pytest.raises(SettingsError, match=r"or of Sentinel\.master_for, .*redis\.Sentinel\."):
            adopt_store(Sentinel([("127.0.0.1", 1)]))

    def test_other_pool(self) -> None:
        """For a client with another pool the error names the pool."""

        class Pool(redis.ConnectionPool):
            pass

        with pytest.raises(SettingsError, match=r"with a plain connection pool .*Pool\."):
            adopt_store(redis.Redis(connection_pool=Pool()))

    def test_connections_of_the_applications_own(self) -> None:
        """A redis-py client with a connection class of its user's own is accepted."""

        class Greeting(redis.Connection):
            def on_connect(self) -> None:
                raise NotImplementedError

        pool = redis.ConnectionPool(connection_class=Greeting)
        assert isinstance(adopt_store(redis.Redis(connection_pool=pool)), RedisStore)
