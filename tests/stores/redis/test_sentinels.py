"""The primary that Sentinels name: which of them is believed, and how they are reached."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from redis.sentinel import Sentinel

from flask_idempotent import _timing
from flask_idempotent.errors import SettingsError, StoreUnavailable
from flask_idempotent.stores.base import Claimed
from flask_idempotent.stores.factory import adopt_store
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.store import RedisStore
from tests.stores.redis.conftest import MakeClient, MakeSentinel
from tests.stores.redis.helpers import claim, port_of
from tests.support.fake_sentinels import AnsweringServer
from tests.support.pauses import within
from tests.support.polling import until
from tests.support.redis_servers import Server, free_port


@pytest.fixture
def replica() -> Iterator[AnsweringServer]:
    """A server that is a replica."""
    role = b"*1\r\n$5\r\nslave\r\n"
    server = AnsweringServer(lambda words, _: role if words[0] == b"ROLE" else b"+OK\r\n")
    yield server
    server.close()


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


def succeeds(client: Client) -> bool:
    try:
        client.execute("PING")
    except StoreUnavailable:
        return False
    return True


class TestWhoIsBelieved:
    def test_all_agree(
        self, clean_valkey: Server, make_sentinel: MakeSentinel, make_client: MakeClient
    ) -> None:
        """The server that they name has the records, in the database of the address."""
        sentinels = [make_sentinel(clean_valkey.port) for _ in range(3)]
        store = RedisStore(make_client(*sentinels, options="/3"))
        assert claim(store) == Claimed(1)
        assert clean_valkey.client.info("keyspace")["db3"]["keys"] == 1
        store.close()

    @pytest.mark.parametrize("fault", ["dead", "silent", "unknown", "strange", "replica", "nobody"])
    def test_one_is_wrong(
        self,
        fault: str,
        clean_valkey: Server,
        make_sentinel: MakeSentinel,
        make_client: MakeClient,
        replica: AnsweringServer,
    ) -> None:
        """One that is dead, silent, knows nothing or names a wrong server is passed over."""
        right = make_sentinel(clean_valkey.port)
        named = {"unknown": None, "strange": -1, "replica": replica.port, "nobody": free_port()}
        wrong = make_sentinel(named.get(fault, clean_valkey.port))
        wrong.is_silent = fault == "silent"
        client = make_client(free_port() if fault == "dead" else wrong, right)
        with within(_timing.STORE_FAILS_WITHIN):
            assert port_of(client) == clean_valkey.port

    def test_last_failover_counts(
        self,
        clean_valkey: Server,
        redis_server: Server,
        make_sentinel: MakeSentinel,
        make_client: MakeClient,
    ) -> None:
        """Of two primaries the one of the last failover counts, whatever most of them say."""
        stale = [make_sentinel(redis_server.port, 3) for _ in range(2)]
        client = make_client(*stale, make_sentinel(clean_valkey.port, 4))
        until(lambda: port_of(client) == clean_valkey.port)

    def test_former_primary_is_not_used(
        self, clean_valkey: Server, make_sentinel: MakeSentinel, make_client: MakeClient
    ) -> None:
        """If the new primary cannot be reached, the former one is not used in its place."""
        stale = [make_sentinel(clean_valkey.port, 3) for _ in range(2)]
        client = make_client(*stale, make_sentinel(free_port(), 4))
        until(lambda: not succeeds(client))
        assert not succeeds(client)

    def test_most_count(
        self,
        clean_valkey: Server,
        redis_server: Server,
        make_sentinel: MakeSentinel,
        make_client: MakeClient,
    ) -> None:
        """Where they may not be asked for the failover's number, the majority counts."""
        right = [make_sentinel(clean_valkey.port, None) for _ in range(2)]
        client = make_client(make_sentinel(redis_server.port, None), *right)
        until(lambda: port_of(client) == clean_valkey.port)


class TestNobodyKnows:
    def test_silent_ones(self, silent: int, make_client: MakeClient) -> None:
        """Silent Sentinels are noticed in time; nothing was sent."""
        client = make_client(silent, silent)
        reason = "no Sentinel names the primary"
        with (
            within(_timing.STORE_FAILS_WITHIN),
            pytest.raises(StoreUnavailable, match=reason) as caught,
        ):
            client.execute("PING")
        assert caught.value.sent is False

    def test_unknown_name(self, make_sentinel: MakeSentinel, make_client: MakeClient) -> None:
        """The error says so if they do not know the primary's name."""
        with pytest.raises(StoreUnavailable, match="does not know a primary of this name"):
            make_client(make_sentinel(None)).execute("PING")

    def test_no_sentinel(self, clean_valkey: Server, make_client: MakeClient) -> None:
        """The error has the server's words if it is not a Sentinel, or refuses the question."""
        with pytest.raises(StoreUnavailable, match="it answers: unknown command 'SENTINEL'"):
            make_client(clean_valkey.port).execute("PING")

    def test_only_replicas(
        self, replica: AnsweringServer, make_sentinel: MakeSentinel, make_client: MakeClient
    ) -> None:
        """A server that is not a primary is not used, even if all of them name it."""
        client = make_client(make_sentinel(replica.port), make_sentinel(replica.port))
        with pytest.raises(StoreUnavailable, match="is not a primary") as caught:
            client.execute("SET", "key", "value")
        assert caught.value.sent is False
        assert [b"SET", b"key", b"value"] not in replica.commands

    def test_dead_and_silent_primaries(
        self, silent: int, make_sentinel: MakeSentinel, make_client: MakeClient
    ) -> None:
        """A primary that does not answer is noticed in time."""
        for port in (silent, free_port()):
            with within(_timing.STORE_FAILS_WITHIN), pytest.raises(StoreUnavailable):
                make_client(make_sentinel(port)).execute("PING")

    def test_no_more_threads(
        self, make_sentinel: MakeSentinel, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that can have no more threads gets the error of a store that is away."""

        def refuse(_: object) -> None:
            raise RuntimeError("can't start new thread")

        client = make_client(make_sentinel(1))
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(StoreUnavailable, match="can't start new thread") as caught:
            client.execute("PING")
        assert caught.value.sent is False


class TestCredentials:
    def test_of_both(self, clean_valkey: Server, make_sentinel: MakeSentinel) -> None:
        """Sentinels and primary have credentials each."""
        clean_valkey.client.execute_command("ACL", "SETUSER", "shop", "on", ">pw", "+@all", "~*")
        sentinel = make_sentinel(clean_valkey.port, 1, "s3cret")
        client = Client.from_url(
            f"redis+sentinel://shop:pw@127.0.0.1:{sentinel.port}/shop?sentinel_password=s3cret"
        )
        try:
            assert client.execute("ACL", "WHOAMI") == b"shop"
        finally:
            client.close()
            clean_valkey.client.acl_deluser("shop")

    @pytest.mark.parametrize(
        ("options", "fault"),
        [("", "Authentication required"), ("?sentinel_password=wr0ng", "this is wrong")],
    )
    def test_wrong(
        self, options: str, fault: str, make_sentinel: MakeSentinel, make_client: MakeClient
    ) -> None:
        """A wrong password of the Sentinels is said, and not shown."""
        client = make_client(make_sentinel(1, 1, "s3cret"), options=options)
        with pytest.raises(StoreUnavailable, match=f"no Sentinel names .*: {fault}") as caught:
            client.execute("PING")
        assert "wr0ng" not in str(caught.value)

    def test_of_a_redis_py_client(self, clean_valkey: Server, make_sentinel: MakeSentinel) -> None:
        """A client of Sentinel.master_for gives addresses, credentials, name and database."""
        sentinel = make_sentinel(clean_valkey.port, 1, "s3cret")
        given = Sentinel(
            [("127.0.0.1", sentinel.port)], sentinel_kwargs={"password": "s3cret"}, db=2
        ).master_for("shop", decode_responses=True)
        store = adopt_store(given)
        assert isinstance(store, RedisStore)
        assert repr(store) == f"<RedisStore redis+sentinel://127.0.0.1:{sentinel.port}/shop/2>"
        assert claim(store) == Claimed(1)
        assert clean_valkey.client.info("keyspace")["db2"]["keys"] == 1
        store.close()

    def test_tls_of_a_redis_py_client(self) -> None:
        """One that connects over TLS is followed in that."""
        given = Sentinel([("s1", 26379)]).master_for("shop", ssl=True)
        assert str(adopt_store(given)) == "rediss+sentinel://s1:26379/shop/0"

    def test_client_of_replicas(self) -> None:
        """A client of Sentinel.slave_for is refused."""
        with pytest.raises(SettingsError, match=r"Sentinel\.master_for, not of slave_for"):
            adopt_store(Sentinel([("s1", 26379)]).slave_for("shop"))

    def test_permission_is_missing(self, clean_valkey: Server, make_sentinel: MakeSentinel) -> None:
        """Where ROLE is not permitted the error says so."""
        clean_valkey.client.execute_command("ACL", "SETUSER", "shop", "on", ">pw", "+ping")
        sentinel = make_sentinel(clean_valkey.port)
        client = Client.from_url(f"redis+sentinel://shop:pw@127.0.0.1:{sentinel.port}/shop")
        try:
            with pytest.raises(StoreUnavailable, match=r"(?i)'role'"):
                client.execute("PING")
        finally:
            client.close()
            clean_valkey.client.acl_deluser("shop")
