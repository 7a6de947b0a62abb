"""The store on real servers: refused writes, old servers, large records, damaged bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_idempotent import _timing
from flask_idempotent.errors import RecordUnreadable, StoreUnavailable, WriteRefused
from flask_idempotent.record_format import encode
from flask_idempotent.records import ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import Busy, Claimed, Completion, Renewal
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.store import RedisStore
from flask_idempotent.stores.redis.subscriber import Subscriber
from tests.stores.harness import (
    ENDS,
    HOUR,
    NEVER,
    answer,
    lapse,
    owner,
    renewal,
    running,
    time_left,
)
from tests.support.hostile_records import FINGERPRINT, HOSTILE, OWNER, header, in_progress
from tests.support.polling import until
from tests.support.proxy import Fault, Proxy
from tests.support.redis_servers import Server, free_port

KEY = "IDEMPOTENT_{redis}"


def claim(store: RedisStore, name: str = "ada") -> object:
    return store.claim(KEY, running(name), ttl_ms=2 * HOUR)


def contend(store: RedisStore, name: str = "ada") -> object:
    return store.contend(KEY, running(name), ttl_ms=2 * HOUR, takeover=True)


def scripts_run(server: Server) -> int:
    return int(server.client.info("commandstats")["cmdstat_evalsha"]["calls"])


class TestInspect:
    def test_foreign_values(self, server: Server, redis_store: RedisStore) -> None:
        """What is no record of ours is seen as unreadable, and can be deleted."""
        server.client.lpush(KEY, "a list")
        server.client.set(KEY + "2", "a text")
        seen = {
            info.storage_key: (info.record, info.size)
            for info in redis_store.inspect([KEY, KEY + "2"])
        }
        assert seen == {KEY: (None, 0), KEY + "2": (None, 6)}
        assert redis_store.delete([KEY, KEY + "2"]) == 2

    def test_user_with_few_rights(self, server: Server) -> None:
        """A user who may not ask for waiters and configuration learns the rest."""
        rights = ("+@all", "-pubsub", "-config")
        server.client.execute_command("ACL", "SETUSER", "few", "on", ">pw", "~*", "&*", *rights)
        store = open_store(f"redis://few:pw@127.0.0.1:{server.port}/0", "tests")
        try:
            store.claim(KEY, running(), ttl_ms=2 * HOUR)
            (info,) = store.inspect([KEY])
            assert (info.record is not None, info.waiters) == (True, None)
            assert "save" not in store.facts()
        finally:
            store.close()
            server.client.execute_command("ACL", "DELUSER", "few")


class TestRefusedWrites:
    @pytest.fixture(params=["out of memory", "read-only", "no replicas"])
    def refusing(self, request: pytest.FixtureRequest, server: Server) -> Iterator[Server]:
        """Makes the server refuse writes when entered."""
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
        """A server that takes no writes still answers what is completed."""
        claim(redis_store)
        redis_store.complete(KEY, answer(), ttl_ms=HOUR)
        self.refuse(refusing)
        assert claim(redis_store, "bob") == answer()
        assert contend(redis_store, "bob") == answer()

    @pytest.mark.parametrize("ask", [claim, contend])
    def test_all_else_is_refused(
        self, refusing: Server, redis_store: RedisStore, ask: Callable[..., object]
    ) -> None:
        """A free key and one in progress are refused, and the claim is known not to be there."""
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
        """A response that cannot be stored is told, and stored when the server takes it."""
        claim(redis_store)
        self.refuse(refusing)
        with pytest.raises(WriteRefused):
            redis_store.complete(KEY, answer(), ttl_ms=HOUR)
        refusing.client.config_set("maxmemory", 0)
        refusing.client.config_set("min-replicas-to-write", 0)
        refusing.client.execute_command("REPLICAOF", "NO", "ONE")
        assert redis_store.complete(KEY, answer(), ttl_ms=HOUR) is Completion.STORED


class TestUnreadable:
    @pytest.mark.parametrize("data", [b"", b"x", b"\x02" + encode(running())[1:], b"\x01z"])
    def test_claim(self, redis_store: RedisStore, server: Server, data: bytes) -> None:
        """A record that cannot be read is an error and stays."""
        server.client.set(KEY, data, ex=60)
        with pytest.raises(RecordUnreadable):
            claim(redis_store)
        assert server.client.get(KEY) == data


def test_record_that_was_made_to_stay(redis_store: RedisStore, server: Server) -> None:
    """A claim whose end somebody took away has not lapsed, and gets an end again."""
    claim(redis_store)
    server.client.persist(KEY)
    assert contend(redis_store, "bob") == Busy(running().fingerprint, HOUR, 1.5)
    assert HOUR < time_left(redis_store, KEY) <= 2 * HOUR


class TestLostReplies:
    @pytest.fixture
    def store(self, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisStore]:
        # However slow this machine is, a broken connection is noticed at once.
        monkeypatch.setattr(_timing, "RESEND_WITHIN", 10.0)
        store = open_store(proxy.url, "tests")
        assert isinstance(store, RedisStore)
        yield store
        store.close()

    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_claim(self, proxy: Proxy, store: RedisStore, action: str) -> None:
        """A claim whose reply is lost is sent again, and finds itself where it was carried out."""
        proxy.faults.append(Fault(b"$3\r\nSET\r\n", action))  # type: ignore[arg-type]
        assert claim(store) == (Claimed(1) if action == "cut before" else running())
        assert proxy.happened == [action]
        assert contend(store) == Claimed(1)

    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_contend(self, proxy: Proxy, store: RedisStore, action: str) -> None:
        """A claim by script whose reply is lost does not wait for itself."""
        proxy.faults.append(Fault(b"EVALSHA", action))  # type: ignore[arg-type]
        assert contend(store) == Claimed(1)
        assert isinstance(contend(store, "bob"), Busy)

    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_complete(self, proxy: Proxy, store: RedisStore, action: str) -> None:
        """A completion whose reply is lost is stored, once."""
        claim(store)
        proxy.faults.append(Fault(b"EVALSHA", action))  # type: ignore[arg-type]
        assert store.complete(KEY, answer(), ttl_ms=HOUR) is Completion.STORED
        assert store.read(KEY) == answer()

    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_release(self, proxy: Proxy, store: RedisStore, action: str) -> None:
        """A release whose reply is lost frees the key and fails nobody."""
        claim(store)
        proxy.faults.append(Fault(b"EVALSHA", action))  # type: ignore[arg-type]
        store.release(KEY, owner("ada"), **ENDS)
        assert store.read(KEY) is None

    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_renew(self, proxy: Proxy, store: RedisStore, action: str) -> None:
        """A renewal whose reply is lost is no lost lease."""
        claim(store)
        proxy.faults.append(Fault(b"EVALSHA", action))  # type: ignore[arg-type]
        assert store.renew([renewal(KEY, running())], until=NEVER) == [True]

    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_subscribe(self, proxy: Proxy, store: RedisStore, action: str) -> None:
        """A subscription that breaks is made again, and its waiter looks again meanwhile."""
        claim(store)
        proxy.faults.append(Fault(b"SUBSCRIBE", action))  # type: ignore[arg-type]
        with store.listen(KEY, 5) as waiter:
            store.complete(KEY, answer(), ttl_ms=HOUR)
            assert waiter.wait(5) == answer()
        assert proxy.happened == [action]


class TestWaiters:
    def test_hold_no_connection_of_the_pool(self, clean_valkey: Server) -> None:
        """However many wait, the one connection of a pool is free for whoever claims."""
        store = open_store(f"{clean_valkey.url}?max_connections=1", "tests")
        try:
            with ExitStack() as stack:
                for number in range(5):
                    stack.enter_context(store.listen(f"{KEY}{number}", 5))
                store.ping()
        finally:
            store.close()


class TestRecords:
    def assert_nobodys(self, store: RedisStore) -> None:
        """What stands at the key is unreadable, and none of ours."""
        for ask in (claim, contend):
            with pytest.raises(RecordUnreadable):
                ask(store)
        with pytest.raises(RecordUnreadable):
            store.read(KEY)
        assert store.renew([renewal(KEY, running())], until=NEVER) == [False]
        assert store.release(KEY, running().owner, **ENDS) is False
        assert store.complete(KEY, answer("bob"), ttl_ms=HOUR) is Completion.REFUSED

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"x",
            b"\x01",
            b"\x02" + encode(running())[1:],
            b"\x01z" + bytes(60),
            encode(answer())[:-3],
        ],
        ids=["empty", "short", "cut", "other version", "other state", "damaged"],
    )
    def test_unreadable(self, redis_store: RedisStore, server: Server, data: bytes) -> None:
        """A record that cannot be read is an error, stays, and is never taken over."""
        server.client.set(KEY, data, ex=60)
        self.assert_nobodys(redis_store)
        assert server.client.get(KEY) == data

    def test_r12_another_kind_of_value(self, redis_store: RedisStore, server: Server) -> None:
        """A list where the record should be is unreadable, stays, and is nobody's."""
        server.client.rpush(KEY, "a list")
        self.assert_nobodys(redis_store)
        assert server.client.llen(KEY) == 1

    def test_r12_damage_behind_a_sound_header(
        self, redis_store: RedisStore, server: Server
    ) -> None:
        """A claim that took over is ours, though it cannot be read whose the last one was."""
        server.client.set(KEY, header(state=b"p", grace=2 * HOUR) + b"\xc1", px=HOUR)
        asking = running()._replace(fingerprint=FINGERPRINT)
        reply = redis_store.contend(KEY, asking, ttl_ms=HOUR, takeover=True)
        assert reply == Claimed(2, 1, None)

    def test_r12_state_of_another_release(self, redis_store: RedisStore, server: Server) -> None:
        """A response is not taken for stored where a record with our token has an unknown state."""
        server.client.set(KEY, b"\x01z" + encode(answer())[2:], ex=60)
        assert redis_store.complete(KEY, answer(), ttl_ms=HOUR) is Completion.REFUSED

    @pytest.mark.parametrize(
        "numbers",
        [{"attempt": 0}, {"attempt": 2**32 - 1}, {"grace": 2**53}, {"grace": 2**64 - 1},
         {"offer": 10}, {"offer": 60}, {"offer": 2**32 - 1}],
        ids=str,
    )  # fmt: skip
    def test_r12_numbers_that_no_owner_writes(
        self, redis_store: RedisStore, server: Server, numbers: dict[str, int]
    ) -> None:
        """A lapsed claim with impossible numbers is never taken over, and stays."""
        data = in_progress(**{"grace": 2 * HOUR, **numbers})
        server.client.set(KEY, data, px=HOUR)
        asking = running()._replace(fingerprint=FINGERPRINT)
        with pytest.raises(RecordUnreadable):
            redis_store.contend(KEY, asking, ttl_ms=HOUR, takeover=True)
        assert server.client.get(KEY) == data

    @pytest.mark.parametrize("offer", [10, 60, 2**32 - 1])
    @pytest.mark.parametrize("attempt", [1, 2])
    def test_r12_release_without_the_offer(
        self, redis_store: RedisStore, server: Server, offer: int, attempt: int
    ) -> None:
        """A release puts nothing in a record's place that is not a response, and frees the key."""
        server.client.set(KEY, in_progress(offer=offer, attempt=attempt, grace=HOUR), px=2 * HOUR)
        assert redis_store.release(KEY, OWNER, **ENDS)
        record = redis_store.read(KEY)
        if attempt == 1:
            assert record is None
        else:
            assert isinstance(record, ReleasedRecord)
            assert record.attempt == 2
        asking = running()._replace(fingerprint=FINGERPRINT)
        result = redis_store.contend(KEY, asking, ttl_ms=HOUR, takeover=True)
        assert isinstance(result, Claimed)
        assert result.attempt == (1 if attempt == 1 else 3)

    def test_r12_whatever_somebody_wrote(self, redis_store: RedisStore, server: Server) -> None:
        """No record makes a script fail, and none that cannot be read is told as a response."""
        asking = RunningRecord(bytes(16), FINGERPRINT, grace_ms=HOUR)
        late = answer()._replace(owner=OWNER, fingerprint=FINGERPRINT)

        @settings(max_examples=50)
        @given(HOSTILE | st.binary(max_size=80), st.integers(1, HOUR))
        def check(data: bytes, life: int) -> None:
            def put() -> None:
                server.client.set(KEY, data, px=life + 1000)

            put()
            with suppress(RecordUnreadable):
                redis_store.claim(KEY, asking, ttl_ms=HOUR)
            with suppress(RecordUnreadable):
                redis_store.contend(KEY, asking, ttl_ms=HOUR, takeover=True)
            put()
            assert redis_store.renew([Renewal(KEY, asking, HOUR)], until=NEVER) == [False]
            for _ in redis_store.inspect([KEY]):
                pass
            with suppress(RecordUnreadable):
                redis_store.read(KEY)
            # A completed record with our token is taken for ours.
            if redis_store.complete(KEY, late, ttl_ms=HOUR) is Completion.STORED:
                assert data[1:2] == b"c" or redis_store.read(KEY) == late
            put()
            redis_store.release(KEY, OWNER, **ENDS)

        check()

    def test_never_without_an_end(self, redis_store: RedisStore, server: Server) -> None:
        """C5: no step leaves a record without a time to live."""
        claim(redis_store)
        assert server.client.pttl(KEY) > 0
        redis_store.renew([renewal(KEY, running())], until=NEVER)
        assert server.client.pttl(KEY) > 0
        redis_store.complete(KEY, answer("bob"), ttl_ms=HOUR)
        assert server.client.pttl(KEY) > 0
        redis_store.complete(KEY, answer(), ttl_ms=HOUR)
        assert server.client.pttl(KEY) > 0

    def test_databases_do_not_hear_each_other(self, server: Server) -> None:
        """A waiter in one database hears nothing of another, though pub/sub knows no databases."""
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
        """Whatever a message says, and whoever sent it, waiters are told what the store has."""
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
        """Whoever may use the channels alone hears empty messages of completions and releases."""
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
        """However many waiters, a response crosses the wire once for them."""
        claim(redis_store)
        other = open_store(server.url, "tests")
        with redis_store.listen(KEY, 5) as first, redis_store.listen(KEY, 5) as second:
            server.reset_counts()
            other.complete(KEY, answer(body=b"x" * 50_000), ttl_ms=HOUR)
            assert first.wait(5) == second.wait(5) == answer(body=b"x" * 50_000)
            # One GET inside the completing script, one of the waiters together.
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

    def test_own_waiters_are_not_told_of_what_is_not_stored(
        self, redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A late response that does not become the key's wakes nobody."""
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
        """A refused SET is asked for once; that claim, and every later one, is the script's."""
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
        """An old server tells of each setting that a new one tells of."""
        store = open_store(old_redis.url, "tests")
        assert {"save", "min-replicas-to-write", "redis_version"} <= set(store.facts())
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
    """The store says where it is."""
    assert repr(redis_store) == f"<RedisStore redis://127.0.0.1:{server.port}/0>"


class TestWithoutChannels:
    def test_completes_all_the_same(self, server: Server) -> None:
        """A user who may not use channels waits by looking; storing and releasing do not fail."""
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
        """A listener whose channel is refused tries again ever more slowly."""
        clean_valkey.client.acl_setuser(
            "nochannels", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all"],
            reset_channels=True,
        )  # fmt: skip
        store = open_store(proxy.url.replace("//", "//nochannels:pw@"), "tests")
        try:
            with store.listen(KEY, 0.7):
                warnings = caplog.text.count("listening for completions was interrupted")
            # At 0, 0.05, 0.15, 0.35 and, on a quick machine, 0.75 seconds.
            assert 2 <= warnings <= 5
        finally:
            store.close()
            clean_valkey.client.acl_deluser("nochannels")
