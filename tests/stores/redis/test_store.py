"""The store on real servers: messages, old servers, and users with few permissions."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.record_format import encode
from flask_idempotent.stores.base import Claimed, Completion
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.store import RedisStore
from flask_idempotent.stores.redis.subscriber import Subscriber
from tests.stores.harness import (
    ENDS,
    HOUR,
    answer,
    lapse,
    owner,
    running,
)
from tests.stores.redis.helpers import KEY, claim, contend
from tests.support.polling import until
from tests.support.proxy import Proxy
from tests.support.redis_servers import Server


def scripts_run(server: Server) -> int:
    return int(server.client.info("commandstats")["cmdstat_evalsha"]["calls"])


class TestInspect:
    def test_foreign_values(self, server: Server, redis_store: RedisStore) -> None:
        """Foreign values are shown as unreadable, and can be deleted."""
        server.client.lpush(KEY, "a list")
        server.client.set(KEY + "2", "a text")
        seen = {
            info.storage_key: (info.record, info.size)
            for info in redis_store.inspect([KEY, KEY + "2"])
        }
        assert seen == {KEY: (None, 0), KEY + "2": (None, 6)}
        assert redis_store.delete([KEY, KEY + "2"]) == 2

    def test_user_with_few_rights(self, server: Server) -> None:
        """A user who may not ask for waiters and configuration gets the rest."""
        rights = ("+@all", "-pubsub", "-config")
        server.client.execute_command("ACL", "SETUSER", "few", "on", ">pw", "~*", "&*", *rights)
        store = open_store(f"redis://few:pw@127.0.0.1:{server.port}/0", "tests")
        try:
            store.claim(KEY, running(), ttl_ms=2 * HOUR)
            (info,) = store.inspect([KEY])
            assert (info.record is not None, info.waiters) == (True, None)
            assert all("save" not in facts for facts in store.facts())
        finally:
            store.close()
            server.client.execute_command("ACL", "DELUSER", "few")


class TestWaiters:
    def test_hold_no_connection_of_the_pool(self, clean_valkey: Server) -> None:
        """However many wait, the only connection of a pool is free for claims."""
        store = open_store(f"{clean_valkey.url}?max_connections=1", "tests")
        try:
            with ExitStack() as stack:
                for number in range(5):
                    stack.enter_context(store.listen(f"{KEY}{number}", 5))
                store.ping()
        finally:
            store.close()


class TestMessages:
    def test_databases_do_not_hear_each_other(self, server: Server) -> None:
        """A waiter in one database gets no message of another, though pub/sub ignores databases."""
        one, again = open_store(server.url, "tests"), open_store(server.url, "tests")
        two = open_store(server.url.replace("/0", "/1"), "tests")
        try:
            heard: list[object] = []
            with one.listen(KEY, 5) as waiter:
                waiter.expect = lambda notification, _: heard.append(notification.record())  # type: ignore[union-attr]
                two.complete(KEY, answer("bob"), ttl_ms=HOUR)
                again.complete(KEY, answer("ada"), ttl_ms=HOUR)
                until(lambda: answer("ada") in heard)
            assert heard == [answer("ada")]
        finally:
            two.delete([KEY])
            for store in (one, again, two):
                store.close()

    @pytest.mark.parametrize(
        "data",
        [b"", b"read", encode(answer(body=b"forged")), b"\x01cdamaged", b"x" * 100_000],
        ids=["empty", "a word", "forged", "damaged", "large"],
    )
    def test_r11_a_message_only_wakes(
        self, redis_store: RedisStore, server: Server, data: bytes
    ) -> None:
        """Whatever a message says, and whatever sent it, waiters get what the store has."""
        other = open_store(server.url, "tests")
        claim(redis_store)
        with redis_store.listen(KEY, 5) as waiter:
            server.client.publish(f"{KEY}@0", data)
            until(lambda: waiter.notified)
            assert waiter.wait(0) is None
            server.client.set(KEY, encode(answer()), keepttl=True)
            server.client.publish(f"{KEY}@0", data)
            assert waiter.wait(5) == answer()
        other.close()

    def test_r11_messages_tell_nothing(self, redis_store: RedisStore, server: Server) -> None:
        """A user who may only use the channels gets nothing but empty messages."""
        with server.client.pubsub() as tenant:
            tenant.psubscribe("*")
            claim(redis_store)
            redis_store.complete(KEY, answer(), ttl_ms=HOUR)
            redis_store.delete([KEY])
            claim(redis_store)
            redis_store.release(KEY, owner("ada"), **ENDS)
            messages = []
            while len(messages) < 3:
                message = tenant.get_message(timeout=5)
                assert message is not None, messages
                if message["type"] == "pmessage":
                    messages.append((message["channel"].decode(), message["data"]))
        assert messages == [(f"{KEY}@0", b"")] * 3

    def test_record_is_read_once(self, redis_store: RedisStore, server: Server) -> None:
        """However many wait, a response is sent to the process once."""
        claim(redis_store)
        other = open_store(server.url, "tests")
        with redis_store.listen(KEY, 5) as first, redis_store.listen(KEY, 5) as second:
            server.reset_counts()
            other.complete(KEY, answer(body=b"x" * 50_000), ttl_ms=HOUR)
            assert first.wait(5) == second.wait(5) == answer(body=b"x" * 50_000)
            # One GET in complete.lua, one for all waiters.
            assert server.counts()["get"] == 2
        other.close()

    def test_own_waiters_need_no_message(
        self, redis_store: RedisStore, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Waiters of the process that stored a response get it from there, however large."""
        monkeypatch.setattr(Subscriber, "deliver", lambda *_: None)
        claim(redis_store)
        with redis_store.listen(KEY, 5) as first, redis_store.listen(KEY, 5) as second:
            server.reset_counts()
            redis_store.complete(KEY, answer(body=b"x" * 50_000), ttl_ms=HOUR)
            assert first.wait(0) == second.wait(0) == answer(body=b"x" * 50_000)
            assert server.counts()["get"] == 1

    def test_own_waiters_get_only_what_is_stored(
        self, redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A late response that does not become the key's wakes no waiter."""
        monkeypatch.setattr(Subscriber, "deliver", lambda *_: None)
        claim(redis_store, "ada")
        lapse(redis_store, KEY)
        contend(redis_store, "bob")
        with redis_store.listen(KEY, 5) as waiter:
            assert redis_store.complete(KEY, answer("ada"), ttl_ms=HOUR) is Completion.OFFERED
            assert not waiter.notified


class TestOldServer:
    """Before Redis 7.0, SET does not take NX and GET together."""

    def test_script_claims_from_then_on(self, proxy: Proxy, clean_valkey: Server) -> None:
        """A refused SET is tried once; that claim, and every later one, is made by the script."""
        proxy.refuse_nx_with_get()
        store = RedisStore(Client.from_url(proxy.url))
        try:
            assert claim(store) == Claimed(1)
            assert claim(store) == running()
            assert claim(store, "bob") == running()
        finally:
            store.close()
        assert proxy.happened == ["refuse"]
        assert scripts_run(clean_valkey) >= 3

    def test_facts(self, old_redis: Server) -> None:
        """An old server reports every setting that a new one reports."""
        store = open_store(old_redis.url, "tests")
        assert {"save", "min-replicas-to-write", "redis_version"} <= set(*store.facts())
        store.close()

    def test_other_errors_are_passed_on(self, redis_store: RedisStore, server: Server) -> None:
        """An error that has nothing to do with the version stays what it is."""
        server.client.acl_setuser(
            "mute", enabled=True, passwords=["+pw"], commands=["+@all", "-set"]
        )
        store = open_store(server.url.replace("//", "//mute:pw@"), "tests")
        with pytest.raises(StoreUnavailable, match="permission"):
            claim(store)
        store.close()
        server.client.acl_deluser("mute")


def test_representation(redis_store: RedisStore, server: Server) -> None:
    """The representation says where the store is."""
    assert repr(redis_store) == f"<RedisStore redis://127.0.0.1:{server.port}/0>"


class TestWithoutChannels:
    def test_completes_all_the_same(self, server: Server) -> None:
        """Completing, releasing and deleting succeed for a user who may not use channels."""
        server.client.acl_setuser(
            "nochannels", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all"],
            reset_channels=True,
        )  # fmt: skip
        store = open_store(server.url.replace("//", "//nochannels:pw@"), "tests")
        try:
            store.claim(KEY, running(), ttl_ms=2 * HOUR)
            assert store.complete(KEY, answer(), ttl_ms=HOUR) is Completion.STORED
            store.delete([KEY])
            store.claim(KEY, running(), ttl_ms=2 * HOUR)
            assert store.release(KEY, owner("ada"), **ENDS) is True
        finally:
            store.close()
            server.client.acl_deluser("nochannels")

    def test_listener_does_not_hammer(
        self, proxy: Proxy, clean_valkey: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A subscriber whose channel is refused tries again, more and more slowly."""
        clean_valkey.client.acl_setuser(
            "nochannels", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all"],
            reset_channels=True,
        )  # fmt: skip
        store = open_store(proxy.url.replace("//", "//nochannels:pw@"), "tests")
        try:
            with store.listen(KEY, 0.7):
                warnings = caplog.text.count("listening for completions was interrupted")
            # At 0, 0.05, 0.15, 0.35 and, on a fast machine, 0.75 seconds.
            assert 2 <= warnings <= 5
        finally:
            store.close()
            clean_valkey.client.acl_deluser("nochannels")
