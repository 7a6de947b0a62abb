"""Messages of the scripts: what they cost waiters and users, and what becomes of broken ones."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from flask_idempotent.errors import RecordUnreadable, StoreError, StoreUnavailable
from flask_idempotent.records import encode
from flask_idempotent.stores.events import Event, Kind
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.redis import messages as module
from flask_idempotent.stores.redis.messages import read_event
from flask_idempotent.stores.redis.store import RedisStore
from tests.stores.harness import ENDS, HOUR, answer, owner, running, told
from tests.support.polling import until
from tests.support.proxy import Fault, Proxy
from tests.support.redis_servers import Server, free_port

KEY = "IDEMPOTENT_{messages}"


@pytest.fixture(name="store")
def _store(redis_store: RedisStore) -> RedisStore:
    return redis_store


def claim(store: RedisStore, name: str = "ada") -> object:
    return store.claim(KEY, running(name), expire=2 * HOUR, takeover=True)


class TestScripts:
    def test_waiters_hear_nothing_of_it(self, store: RedisStore) -> None:
        """What is told to a watcher rings no waiter's bell, and counts nobody as a waiter."""
        claim(store)
        with store.events("IDEMPOTENT_") as hear, store.listen(KEY, 5) as bell:
            claim(store, "bob")
            assert [event.kind for event in hear(5)] == [Kind.BUSY]
            (sight,) = store.inspect([KEY])
            assert (sight.waiters, bell.rung) == (1, False)

    @pytest.mark.parametrize("data", [b"x", b"\x02" + encode(answer())[1:], b"\x01z" + bytes(60)])
    def test_unreadable(self, store: RedisStore, server: Server, data: bytes) -> None:
        """A request that finds a record that this release cannot read is told of."""
        server.client.set(KEY, data, ex=60)
        with store.events("IDEMPOTENT_") as hear:
            with pytest.raises(RecordUnreadable):
                claim(store)
            assert list(hear(5)) == [Event(KEY, Kind.UNREADABLE, by=told(running()))]

    def test_databases(self, server: Server, store: RedisStore) -> None:
        """What happens in another database of the server is not heard."""
        other = open_store(server.url.replace("/0", "/1"), "tests")
        try:
            with store.events("IDEMPOTENT_") as hear:
                other.complete(KEY, answer("bob"), expire=HOUR)
                claim(store)
                assert [event.kind for event in hear(5)] == [Kind.CLAIMED]
        finally:
            other.delete([KEY])
            other.close()

    def test_replay_of_a_server_that_takes_no_writes(
        self, server: Server, store: RedisStore
    ) -> None:
        """A replica tells of its replays too."""
        store.complete(KEY, answer(), expire=HOUR)
        server.client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
        try:
            with store.events("IDEMPOTENT_") as hear:
                claim(store, "bob")
                assert [event.kind for event in hear(5)] == [Kind.REPLAYED]
        finally:
            server.client.execute_command("REPLICAOF", "NO", "ONE")

    def test_forbidden_channels(self, server: Server, store: RedisStore) -> None:
        """A user who may not use the channels claims, completes, replays and releases as ever."""
        server.client.acl_setuser(
            "nochannels", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all"],
            reset_channels=True,
        )  # fmt: skip
        mute = open_store(server.url.replace("//", "//nochannels:pw@"), "tests")
        try:
            with store.events("IDEMPOTENT_") as hear:
                for record in (running("ada"), running("bob"), running("cyd", "two")):
                    mute.claim(KEY, record, expire=2 * HOUR, takeover=True)
                mute.release(KEY, owner("ada"), **ENDS)
                mute.complete(KEY, answer(), expire=HOUR)
                again = mute.claim(KEY, running("bob"), expire=2 * HOUR, takeover=True)
                assert again == answer()
                assert list(hear(0)) == []
            with pytest.raises(StoreError, match="permission"), mute.events("IDEMPOTENT_"):
                pass
        finally:
            mute.close()
            server.client.acl_deluser("nochannels")


class TestHearing:
    def test_flood(self, server: Server, store: RedisStore) -> None:
        """However many events there are, each is heard, and no wait takes all of them."""
        with store.events("IDEMPOTENT_") as hear:
            pipeline = server.client.pipeline(transaction=False)
            for number in range(1200):
                pipeline.publish(f"{KEY}{number}@0!", "released 0 ")
            pipeline.execute()
            batches: list[Sequence[Event]] = []
            until(lambda: batches.append(hear(1)) or sum(map(len, batches)) == 1200)
        assert max(map(len, batches)) <= 500
        heard = [event for batch in batches for event in batch]
        assert [event.key for event in heard] == [f"{KEY}{number}" for number in range(1200)]

    def test_dead_server(self, proxy: Proxy) -> None:
        """Where the connection breaks, whoever listens is told."""
        store = open_store(proxy.url, "tests")
        try:
            with store.events("IDEMPOTENT_") as hear:
                proxy.cut_all()
                with pytest.raises(StoreUnavailable):
                    hear(5)
        finally:
            store.close()

    def test_silent_server(self, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
        """A connection that is silent too long is asked for a sign of life, and then given up."""
        monkeypatch.setattr(module, "PING_AFTER", 0.01)
        store = open_store(proxy.url, "tests")
        try:
            with store.events("IDEMPOTENT_") as hear:
                assert list(hear(0.1)) == [], "the server answers each PING"
                proxy.go_silent()
                with pytest.raises(StoreUnavailable, match="fell silent"):
                    hear(5)
        finally:
            store.close()

    def test_unconfirmed(self, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that takes the connection and says nothing is no server to listen to."""
        monkeypatch.setattr(module, "_CONFIRMED_WITHIN", 0.01)
        proxy.faults.append(Fault(b"PSUBSCRIBE", "swallow"))
        store = open_store(proxy.url, "tests")
        try:
            with pytest.raises(StoreUnavailable, match="does not confirm"):
                store.events("IDEMPOTENT_").__enter__()
        finally:
            store.close()


class TestReadEvent:
    @pytest.mark.parametrize(
        "data", [b"", b"claimed", b"promoted 0 ", b"claimed many ", b"\xff 0 "]
    )
    def test_unknown(self, data: bytes) -> None:
        """What another release may tell, or anybody, is passed over."""
        assert read_event(KEY, data) is None

    @pytest.mark.parametrize("octets", [b"\x01c", encode(running())[:60]])
    def test_damaged_record(self, octets: bytes) -> None:
        """A record that cannot be read leaves the event without it."""
        assert read_event(KEY, b"busy 0 " + octets) == Event(KEY, Kind.BUSY)

    def test_long_status_line(self) -> None:
        """A status line that does not fit into the message is left out."""
        data = encode(answer()._replace(status="299 " + "so so " * 50))
        event = read_event(KEY, b"completed 2 " + data[:128] + data[-9:])
        assert event == Event(KEY, Kind.COMPLETED, woken=2)
