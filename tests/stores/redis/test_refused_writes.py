"""Servers that refuse writes: out of memory, read-only, or short of replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flask_idempotent.errors import WriteRefused
from flask_idempotent.stores.base import Completion
from flask_idempotent.stores.redis.store import RedisStore
from tests.stores.harness import (
    HOUR,
    answer,
)
from tests.stores.redis.helpers import KEY, claim, contend
from tests.support.redis_servers import Server, free_port


class TestRefusedWrites:
    @pytest.fixture(params=["out of memory", "read-only", "no replicas"])
    def refusing(self, request: pytest.FixtureRequest, server: Server) -> Iterator[Server]:
        """The server, which ``refuse`` makes refuse writes."""
        self.kind = request.param
        if self.kind == "no replicas" and server.client.info()["redis_version"] < "7":
            pytest.skip("before Redis 7.0 scripts write all the same")
        yield server
        server.client.config_set("maxmemory", 0)
        server.client.config_set("min-replicas-to-write", 0)
        server.client.execute_command("REPLICAOF", "NO", "ONE")

    def refuse(self, server: Server) -> None:
        if self.kind == "out of memory":
            server.client.config_set("maxmemory", 1)
        elif self.kind == "no replicas":
            server.client.config_set("min-replicas-to-write", 1)
        else:
            server.client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))

    def test_completed_is_replayed(self, refusing: Server, redis_store: RedisStore) -> None:
        """A server that refuses writes still replays what is completed."""
        claim(redis_store)
        redis_store.complete(KEY, answer(), ttl_ms=HOUR)
        self.refuse(refusing)
        assert claim(redis_store, "bob") == answer()
        assert contend(redis_store, "bob") == answer()

    @pytest.mark.parametrize("ask", [claim, contend])
    def test_all_else_is_refused(
        self, refusing: Server, redis_store: RedisStore, ask: Callable[..., object]
    ) -> None:
        """A free key is refused, and the error says that the claim was not carried out."""
        self.refuse(refusing)
        with pytest.raises(WriteRefused) as caught:
            ask(redis_store, "bob")
        assert caught.value.sent is False

    def test_running_claim_is_refused(self, refusing: Server, redis_store: RedisStore) -> None:
        """A key in progress is refused too: waiting for it might never end."""
        claim(redis_store)
        self.refuse(refusing)
        with pytest.raises(WriteRefused):
            contend(redis_store, "bob")

    def test_completion_is_refused(self, refusing: Server, redis_store: RedisStore) -> None:
        """A response that cannot be stored is an error, and is stored once the server takes it."""
        claim(redis_store)
        self.refuse(refusing)
        with pytest.raises(WriteRefused):
            redis_store.complete(KEY, answer(), ttl_ms=HOUR)
        refusing.client.config_set("maxmemory", 0)
        refusing.client.config_set("min-replicas-to-write", 0)
        refusing.client.execute_command("REPLICAOF", "NO", "ONE")
        assert redis_store.complete(KEY, answer(), ttl_ms=HOUR) is Completion.STORED
