"""The primary that Sentinels name: what follows when it changes, and who asks when."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from flask_idempotent import _timing
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.stores.base import Claimed
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.redis.store import RedisStore
from tests.stores.harness import HOUR, answer
from tests.stores.redis.conftest import MakeClient, MakeSentinel
from tests.stores.redis.helpers import KEY, claim, port_of
from tests.support.fake_sentinels import FakeSentinel
from tests.support.polling import until
from tests.support.proxy import Fault, Proxy
from tests.support.redis_servers import Server


@pytest.fixture
def asked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the Sentinels twenty times a second."""
    monkeypatch.setattr(_timing, "SENTINEL_EVERY", 0.05)


@pytest.mark.usefixtures("asked_often")
class TestMove:
    @pytest.fixture
    def sentinels(self, clean_valkey: Server, make_sentinel: MakeSentinel) -> list[FakeSentinel]:
        return [make_sentinel(clean_valkey.port) for _ in range(3)]

    def move(self, sentinels: list[FakeSentinel], port: int) -> None:
        for sentinel in sentinels:
            sentinel.primary_port, sentinel.epoch = port, 2

    def test_former_primary_is_left(
        self,
        redis_server: Server,
        sentinels: list[FakeSentinel],
        make_client: MakeClient,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The former primary goes on answering, and yet no connection to it is used any more."""
        client = make_client(*sentinels)
        port_of(client)
        # One of them is enough: it led the failover.
        self.move(sentinels[:1], redis_server.port)
        until(lambda: port_of(client) == redis_server.port)
        assert f"name another primary: 127.0.0.1:{redis_server.port} instead" in caplog.text
        # The others say it later, and nothing changes.
        self.move(sentinels, redis_server.port)
        asked = sentinels[2].asked
        until(lambda: port_of(client) == redis_server.port and sentinels[2].asked > asked + 2)
        assert client.nodes()[0].generation == 1

    def test_waiters_follow(
        self, redis_server: Server, sentinels: list[FakeSentinel], make_client: MakeClient
    ) -> None:
        """The waiters' subscription moves without any other command."""
        redis_server.client.flushall()
        store = RedisStore(make_client(*sentinels))
        claim(store)
        with store.listen(KEY, 5) as waiter:
            self.move(sentinels, redis_server.port)
            (channel,) = store._subscriber._channels.values()
            until(lambda: redis_server.client.pubsub_channels() and not channel.unconfirmed)
            # It may have missed a message.
            assert waiter.wait(5) is None
            other = open_store(redis_server.url, "tests")
            other.complete(KEY, answer(), ttl_ms=HOUR)
            assert waiter.wait(5) == answer()
            other.close()
        store.close()
        redis_server.client.flushall()

    @pytest.mark.parametrize("in_time", [True, False])
    def test_answer_on_its_way(
        self,
        in_time: bool,
        proxy: Proxy,
        redis_server: Server,
        make_sentinel: MakeSentinel,
        make_client: MakeClient,
        background: Callable[..., Future[object]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """What the former primary answers after the change is not believed: the new one is asked,
        and if that would take too long, the outcome is unknown."""
        monkeypatch.setattr(_timing, "MOVE_WITHIN", 10.0 if in_time else 0.0)
        redis_server.client.flushall()
        sentinel = make_sentinel(proxy.port)
        store = RedisStore(make_client(sentinel))
        claim(store, key="other")
        may_arrive = threading.Event()
        proxy.faults.append(Fault(b"NX", "delay", until=may_arrive))
        claiming = background(claim, store)
        until(lambda: proxy.happened)
        self.move([sentinel], redis_server.port)
        until(lambda: store._client.nodes()[0].generation == 1)
        may_arrive.set()
        if in_time:
            assert claiming.result() == Claimed(1)
            assert redis_server.client.exists(KEY)
        else:
            with pytest.raises(StoreUnavailable, match="another server has taken over") as caught:
                claiming.result()
            assert caught.value.sent is True
        assert store._client.nodes()[0].generation == 1
        store.close()

    def test_unavailable_sentinels(
        self, clean_valkey: Server, sentinels: list[FakeSentinel], make_client: MakeClient
    ) -> None:
        """If all Sentinels die, the primary goes on serving, on new connections too."""
        client = make_client(*sentinels)
        port_of(client)
        for sentinel in sentinels:
            sentinel.primary_port = None
        asked = sentinels[0].asked
        until(lambda: sentinels[0].asked > asked + 2)
        assert port_of(client) == clean_valkey.port
        client.nodes()[0].drop()
        assert port_of(client) == clean_valkey.port

    def test_refused_write(
        self,
        clean_valkey: Server,
        redis_server: Server,
        make_sentinel: MakeSentinel,
        make_client: MakeClient,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A primary that refuses as a replica is left at once: the Sentinels are asked again."""
        monkeypatch.setattr(_timing, "SENTINEL_EVERY", 60.0)
        proxy = Proxy(clean_valkey.port)
        sentinel = make_sentinel(proxy.port)
        client = make_client(sentinel)
        port_of(client)
        self.move([sentinel], redis_server.port)
        refusal = b"-READONLY You can't write against a read only replica.\r\n"
        proxy.faults.append(Fault(b"SET", "refuse", reply=refusal, times=9))
        assert client.execute("SET", "key", "value") == b"OK"
        assert redis_server.client.get("key") == b"value"
        proxy.close()


class TestTraffic:
    def test_only_while_it_is_used(
        self,
        clean_valkey: Server,
        redis_server: Server,
        make_sentinel: MakeSentinel,
        make_client: MakeClient,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A client that is not used asks nobody and keeps no connection; then it asks first."""
        monkeypatch.setattr(_timing, "SENTINEL_EVERY", 0.02)
        monkeypatch.setattr(_timing, "SENTINEL_UNUSED_AFTER", 0.1)
        sentinel = make_sentinel(clean_valkey.port)
        client = make_client(sentinel)
        port_of(client)
        until(lambda: not sentinel_threads())
        assert client.nodes()[0]._pool._idle == []
        sentinel.primary_port, sentinel.epoch = redis_server.port, 2
        assert port_of(client) == redis_server.port

    def test_nothing_starts_early(
        self, make_sentinel: MakeSentinel, make_client: MakeClient
    ) -> None:
        """No thread starts, and nobody is asked, before the first command."""
        sentinel = make_sentinel(1)
        make_client(sentinel)
        assert (sentinel_threads(), sentinel.asked) == ([], 0)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_forked_process(
        self, clean_valkey: Server, make_sentinel: MakeSentinel, make_client: MakeClient
    ) -> None:
        """A forked process asks on connections of its own, in threads of its own."""
        client = make_client(make_sentinel(clean_valkey.port))
        port_of(client)
        child = os.fork()
        if not child:
            os._exit(not (sentinel_threads() == [] and port_of(client) == clean_valkey.port))
        assert os.waitpid(child, 0)[1] == 0
        assert port_of(client) == clean_valkey.port


def sentinel_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "sentinel" in thread.name]
