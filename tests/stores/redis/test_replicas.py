"""``min_replicas`` on a real primary, whose replica confirms what it writes or does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flask_idempotent import _timing
from flask_idempotent.errors import TooFewReplicas
from flask_idempotent.record_format import decode
from flask_idempotent.records import CompletedRecord, RunningRecord
from flask_idempotent.stores.base import Claimed, Completion, Step, StepResult
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.redis.store import RedisStore
from tests.stores.harness import HOUR, answer, lapse, renewal, running
from tests.stores.redis.helpers import KEY, claim, contend
from tests.support.pauses import within
from tests.support.polling import until
from tests.support.redis_servers import old_redis_binary, valkey_binary
from tests.support.replicated_servers import ReplicatedServer

#: In Valkey, as in Redis from version 7.2 on, WAIT only waits for what its connection has written.
BINARIES = {"valkey": valkey_binary, "old redis": old_redis_binary}
MakeStore = Callable[..., RedisStore]
#: A step of ada's view that began.
STEP = Step("charge", running("ada").owner, 1.5)


@pytest.fixture(scope="module", params=BINARIES)
def replicated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReplicatedServer]:
    servers = ReplicatedServer(BINARIES[request.param](), tmp_path_factory.mktemp("replicated"))
    try:
        yield servers.start()
    finally:
        servers.stop()


@pytest.fixture
def make_store(
    replicated: ReplicatedServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeStore]:
    """Makes stores with connections of their own, whose records a number of replicas confirm."""
    monkeypatch.setattr(_timing, "REPLICAS_TIMEOUT", 20.0)
    monkeypatch.setattr(_timing, "REPLY_TIMEOUT", 30.0)
    replicated.primary.client.flushall()
    made: list[RedisStore] = []

    def make(replicas: int = 1) -> RedisStore:
        store = open_store(replicated.url, "tests")
        assert isinstance(store, RedisStore)
        made.append(store)
        return store.confirmed_by(replicas) if replicas else store

    yield make
    for store in made:
        store.close()


def on_replica(replicated: ReplicatedServer) -> object:
    """What the replica has, right now."""
    data = replicated.replica.client.get(KEY)
    return None if data is None else decode(data)


class TestConfirmed:
    def test_claim(self, replicated: ReplicatedServer, make_store: MakeStore) -> None:
        """A claim that was made is on the replica."""
        assert claim(make_store()) == Claimed(1)
        assert on_replica(replicated) == running()

    def test_take_over(self, replicated: ReplicatedServer, make_store: MakeStore) -> None:
        """A claim that was taken over is on the replica."""
        store = make_store()
        claim(store)
        lapse(store, KEY)
        assert contend(store, "bob") == Claimed(2, 1, running())
        record = on_replica(replicated)
        assert isinstance(record, RunningRecord)
        assert (record.owner, record.attempt) == (running("bob").owner, 2)

    def test_completion(self, replicated: ReplicatedServer, make_store: MakeStore) -> None:
        """A response that was stored is on the replica."""
        store = make_store()
        claim(store)
        assert store.complete(KEY, answer("ada"), ttl_ms=HOUR) is Completion.STORED
        assert on_replica(replicated) == answer("ada")

    def test_steps(self, replicated: ReplicatedServer, make_store: MakeStore) -> None:
        """A step that began, and one that ended, is on the replica."""
        store = make_store()
        claim(store)
        for step in (STEP, STEP._replace(value=b"paid")):
            assert store.write_step(KEY, running(), step, ttl_ms=HOUR) is StepResult.WRITTEN
            names = replicated.replica.client.hkeys(f"{KEY}:steps")
            assert set(names) == {b"f", b"echarge" if step.value else b"scharge"}

    def test_is_asked_for_in_the_same_write(
        self, replicated: ReplicatedServer, make_store: MakeStore
    ) -> None:
        """A first request asks the replicas twice, and sends no command apart for that."""
        store = make_store()
        claim(store, key="another")  # After it, the server's version is known.
        store.complete("another", answer("ada"), ttl_ms=HOUR)
        replicated.primary.reset_counts()
        claim(store)
        store.complete(KEY, answer("ada"), ttl_ms=HOUR)
        counts = replicated.primary.counts()
        assert counts["wait"] == 2
        assert "eval" not in counts


class TestPaused:
    """The replica is connected and silent, as behind a network that was cut."""

    def test_step(self, replicated: ReplicatedServer, make_store: MakeStore) -> None:
        """A step that the replica does not confirm is an error, and what is not ours is not."""
        store = make_store(0)
        claim(store)
        store.write_step(KEY, running(), STEP, ttl_ms=HOUR)
        with replicated.replica_paused():
            confirmed = store.confirmed_by(1)
            with pytest.raises(TooFewReplicas):
                confirmed.write_step(KEY, running(), STEP._replace(value=b"paid"), ttl_ms=HOUR)
            bob = running("bob")
            lost = confirmed.write_step(KEY, bob, STEP._replace(owner=bob.owner), ttl_ms=HOUR)
            assert lost is StepResult.LOST

    def test_claim(
        self, replicated: ReplicatedServer, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A claim that the replica does not confirm is an error that says how many did."""
        monkeypatch.setattr(_timing, "REPLICAS_TIMEOUT", 0.1)
        store = make_store()
        with (
            replicated.replica_paused(ends_waits=False),
            within(_timing.STORE_FAILS_WITHIN),
            pytest.raises(TooFewReplicas, match="1 replicas must confirm, and 0 did") as error,
        ):
            claim(store)
        assert error.value.sent

    def test_take_over(self, replicated: ReplicatedServer, make_store: MakeStore) -> None:
        """So is a claim that was taken over."""
        store = make_store()
        claim(store)
        lapse(store, KEY)
        with replicated.replica_paused(), pytest.raises(TooFewReplicas):
            contend(store, "bob")

    def test_claim_that_is_sent_again(
        self, replicated: ReplicatedServer, make_store: MakeStore
    ) -> None:
        """The claim's own token, on another connection, does not pass for confirmed."""
        with replicated.replica_paused():
            for _ in range(2):
                with pytest.raises(TooFewReplicas):
                    contend(make_store())

    def test_completion_that_is_sent_again(
        self, replicated: ReplicatedServer, make_store: MakeStore
    ) -> None:
        """A response that is stored already, on another connection, is not confirmed either."""
        with replicated.replica_paused():
            for _ in range(2):
                with pytest.raises(TooFewReplicas):
                    make_store().complete(KEY, answer("ada"), ttl_ms=HOUR)
            assert isinstance(make_store(0).read(KEY), CompletedRecord)
        assert make_store().complete(KEY, answer("ada"), ttl_ms=HOUR) is Completion.STORED
        assert on_replica(replicated) == answer("ada")

    def test_others_are_refused_at_once(
        self, replicated: ReplicatedServer, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One claim a second waits for the missing replica; the others are refused meanwhile."""
        monkeypatch.setattr(_timing, "REPLICAS_EVERY", 60.0)
        store = make_store()
        with replicated.replica_paused():
            for key in ("first", "question"):
                with pytest.raises(TooFewReplicas, match="0 did"):
                    claim(store, key=key)
            replicated.primary.reset_counts()
            with pytest.raises(TooFewReplicas, match="did not confirm earlier writes"):
                claim(store, key="later")
            assert "wait" not in replicated.primary.counts()

    def test_replays_are_not_held_up(
        self, replicated: ReplicatedServer, make_store: MakeStore
    ) -> None:
        """Once replicas are known to be missing, nobody waits for them who wrote nothing."""
        store = make_store()
        store.complete(KEY, answer("ada"), ttl_ms=HOUR)
        with replicated.replica_paused():
            with pytest.raises(TooFewReplicas):
                claim(store, key="another")
            replicated.primary.reset_counts()
            assert claim(store, "bob") == contend(store, "bob") == answer("ada")
            assert "wait" not in replicated.primary.counts()

    def test_renewals_do_not_wait(
        self, replicated: ReplicatedServer, make_store: MakeStore
    ) -> None:
        """A renewal and a release are not held up by replicas."""
        store = make_store()
        claim(store)
        with replicated.replica_paused():
            replicated.primary.reset_counts()
            assert store.renew([renewal(KEY, running())], restore_within_ms=0) == [True]
            store.release(KEY, running().owner, response_ttl_ms=HOUR, tombstone_ttl_ms=HOUR)
            assert "wait" not in replicated.primary.counts()

    def test_without_min_replicas(
        self, replicated: ReplicatedServer, make_store: MakeStore
    ) -> None:
        """A store that wants no replicas does not ask for them."""
        store = make_store(0)
        replicated.primary.reset_counts()
        with replicated.replica_paused():
            assert claim(store) == Claimed(1)
            assert store.complete(KEY, answer("ada"), ttl_ms=HOUR) is Completion.STORED
        assert "wait" not in replicated.primary.counts()


class TestBack:
    """The replica goes on after a pause."""

    def test_claims_are_made_again(
        self, replicated: ReplicatedServer, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One confirmation ends the state in which claims are refused."""
        monkeypatch.setattr(_timing, "REPLICAS_EVERY", 0.0)
        store = make_store()
        with replicated.replica_paused(), pytest.raises(TooFewReplicas):
            claim(store)
        assert claim(store, key="first") == Claimed(1)
        replicated.primary.reset_counts()
        assert claim(store, key="second") == Claimed(1)
        assert replicated.primary.counts()["wait"] == 1
        assert replicated.primary.counts().get("eval", 0) == 0

    def test_question_is_repeated(
        self, replicated: ReplicatedServer, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While replicas are missing they are asked again and again, without another write."""
        monkeypatch.setattr(_timing, "REPLICAS_EVERY", 0.05)
        store = make_store()

        def is_stored() -> bool:
            try:
                return store.complete(KEY, answer("ada"), ttl_ms=HOUR) is Completion.STORED
            except TooFewReplicas:
                return False

        with replicated.replica_paused():
            assert not is_stored()
            assert not is_stored()
        until(is_stored)
        assert on_replica(replicated) == answer("ada")


def test_more_than_there_are(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a server has fewer replicas than are wanted, no claim is made."""
    monkeypatch.setattr(_timing, "REPLICAS_TIMEOUT", 0.1)
    # On a busy machine the only one may not confirm in this time.
    with pytest.raises(TooFewReplicas, match=r"2 replicas must confirm, and [01] did"):
        claim(make_store(2))
