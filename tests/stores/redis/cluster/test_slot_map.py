"""Who has which slots: asked of any node, in the background, and never believed for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from flask_idempotent import _timing
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.stores.base import Claimed
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.redis.slots import SlotRange, read_slots, slot_of
from flask_idempotent.stores.redis.store import RedisStore
from tests.stores.harness import HOUR, renewal, running
from tests.stores.redis.cluster.steps import STEPS
from tests.stores.redis.helpers import KEY, claim, contend
from tests.support.pauses import within
from tests.support.polling import until
from tests.support.proxy import EVER, Fault
from tests.support.redis_fleets import SLOTS
from tests.support.redis_servers import Server, free_port
from tests.support.shown_cluster import ShownCluster, slots_reply

Open = Callable[..., RedisStore]


@pytest.fixture
def open_at() -> Iterator[Open]:
    """Opens stores at seeds, each a port."""
    made: list[RedisStore] = []

    def make(*ports: int) -> RedisStore:
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        store = open_store(f"redis+cluster://{hosts}", "tests")
        assert isinstance(store, RedisStore)
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


class TestReading:
    """``read_slots``: redis-py's own parsing, with what it leaves open."""

    def test_primaries(self) -> None:
        """Each range of slots belongs to the first node that is named."""
        reply = [[0, 99, [b"10.0.0.1", 7000, b"id"], [b"10.0.0.2", 7001, b"id"]]]
        assert read_slots(reply, "seed") == [SlotRange(0, 99, ("10.0.0.1", 7000))]

    @pytest.mark.parametrize("host", [b"", None])
    def test_host_is_left_out(self, host: bytes | None) -> None:
        """A node that leaves out a host means the one that it was asked at."""
        assert read_slots([[0, 9, [host, 7000]]], "seed") == [SlotRange(0, 9, ("seed", 7000))]

    def test_host_is_not_known(self) -> None:
        """A node whose host name nobody knows cannot be connected to."""
        assert read_slots([[0, 9, [b"?", 7000]]], "seed") == []

    @pytest.mark.parametrize("reply", [None, 7, b"OK", [1], [[1, 2]], [[0, 9, []]], [[0, 9, b"x"]]])
    def test_something_else(self, reply: object) -> None:
        """Anything else is refused as a whole."""
        with pytest.raises(ValueError, match="CLUSTER SLOTS"):
            read_slots(reply, "seed")


class TestSeeds:
    def test_one_is_dead(self, shown: ShownCluster, open_at: Open) -> None:
        """One seed of two is dead: the other one is asked within the same request."""
        store = open_at(free_port(), shown.first.port)
        assert claim(store) == Claimed(1)

    def test_all_are_dead(self, open_at: Open) -> None:
        """No seed answers: the request fails at once, nothing was sent, and the reason is said."""
        with pytest.raises(StoreUnavailable, match=r"no node .*: .*refused") as error:
            claim(open_at(free_port(), free_port()))
        assert not error.value.sent

    def test_silent(self, shown: ShownCluster, open_at: Open) -> None:
        """A silent seed holds nobody up for longer than the two seconds of a command."""
        shown.first.go_silent()
        store = open_at(shown.first.port)
        with within(_timing.STORE_FAILS_WITHIN), pytest.raises(StoreUnavailable):
            claim(store)

    def test_not_a_cluster(self, clean_valkey: Server, open_at: Open) -> None:
        """A server that is not a node of a cluster says so."""
        with pytest.raises(StoreUnavailable, match="cluster support disabled"):
            claim(open_at(clean_valkey.port))

    def test_lies(self, shown: ShownCluster, open_at: Open) -> None:
        """A seed that answers nonsense, or knows of no slot, is passed over."""
        for lie in (b"+OK\r\n", b"*0\r\n"):
            shown.answer(lie, shown.first)
            assert claim(open_at(shown.first.port, shown.second.port)) is not None

    def test_knows_less(self, shown: ShownCluster, open_at: Open) -> None:
        """A node that knows of some slots only is believed when none knows of more."""
        shown.answer(slots_reply((0, shown.slot - 1, free_port())), shown.first)
        assert claim(open_at(shown.first.port, shown.second.port)) == Claimed(1)

    def test_asked_again(
        self, shown: ShownCluster, open_at: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a failure the nodes are asked again, at most once a second."""
        monkeypatch.setattr(_timing, "SLOTS_EVERY", 3600.0)
        shown.answer(b"*0\r\n")
        store = open_at(shown.first.port)
        for _ in range(5):
            with pytest.raises(StoreUnavailable, match="know of none"):
                claim(store)
        assert shown.asked_for_slots() == 1
        monkeypatch.setattr(_timing, "SLOTS_EVERY", 0.0)
        shown.show((0, SLOTS - 1, shown.second.port))
        until(lambda: claims(store))


class TestThreads:
    def test_no_more(
        self, shown: ShownCluster, store: RedisStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without a thread to ask for the map, requests go by the old one, or fail and say why."""

        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name == "flask-idempotent-slots":
                raise RuntimeError("can't start new thread")
            start(thread)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(StoreUnavailable, match="can't start new thread") as error:
                claim(store)
            assert not error.value.sent
        claim(store)
        moved = f"-MOVED {shown.slot} 127.0.0.1:{shown.second.port}\r\n".encode()
        shown.first.faults.append(Fault(STEPS["contend"].needle, "refuse", reply=moved))
        with monkeypatch.context() as patch:
            patch.setattr(_timing, "SLOTS_EVERY", 0.0)
            patch.setattr(threading.Thread, "start", refuse)
            assert contend(store) is not None


class TestSlots:
    def test_not_covered(self, shown: ShownCluster, store: RedisStore) -> None:
        """A key whose slot nobody has: the request fails, and nothing was sent."""
        shown.show((0, shown.slot - 1, shown.first.port))
        with pytest.raises(StoreUnavailable, match="no node of the cluster serves") as error:
            claim(store)
        assert not error.value.sent

    def test_others_are_served(self, shown: ShownCluster, store: RedisStore) -> None:
        """While one node is dead, the keys of the others are served."""
        shown.show(
            (0, shown.slot - 1, free_port()),
            (shown.slot, shown.slot, shown.first.port),
            (shown.slot + 1, SLOTS - 1, free_port()),
        )
        with pytest.raises(StoreUnavailable):
            claim(store, key="IDEMPOTENT_{another}")
        assert claim(store) == Claimed(1)

    def test_renewals_of_others(self, shown: ShownCluster, store: RedisStore) -> None:
        """A dead node's claims are not known to be renewed; the others' are."""
        shown.show((0, shown.slot - 1, free_port()), (shown.slot, SLOTS - 1, shown.first.port))
        claim(store)
        low = low_key(shown.slot)
        assert renew(store, low, KEY) == [None, True]

    def test_renewals_do_not_wait_for_a_silent_node(
        self,
        shown: ShownCluster,
        store: RedisStore,
        background: Callable[..., Future[list[bool | None]]],
    ) -> None:
        """Once a node was silent, the leases at the others are renewed before it is asked again."""
        shown.show(
            (0, shown.slot - 1, shown.second.port), (shown.slot, SLOTS - 1, shown.first.port)
        )
        claim(store)
        shown.second.go_silent()
        low = low_key(shown.slot)
        assert renew(store, low, KEY) == [None, True]
        received = Fault(STEPS["renew"].needle, "delay", times=EVER)
        shown.first.faults.append(received)
        with within(_timing.REPLY_TIMEOUT):
            renewing = background(renew, store, low, KEY)
            until(lambda: received.times < EVER)
        assert renewing.result() == [None, True]

    def test_young_map(self, shown: ShownCluster, store: RedisStore) -> None:
        """The nodes are asked once, and then only when there is a reason."""
        claim(store)
        contend(store)
        assert shown.asked_for_slots() == 1

    def test_old_map(
        self, shown: ShownCluster, store: RedisStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A map of some age is asked for again, while requests go on."""
        monkeypatch.setattr(_timing, "SLOTS_EVERY", 0.0)
        monkeypatch.setattr(_timing, "SLOTS_MAX_AGE", 0.0)
        claim(store)
        shown.show((0, SLOTS - 1, shown.second.port))
        received = Fault(STEPS["contend"].needle, "delay", times=EVER)
        shown.second.faults.append(received)
        until(lambda: contend(store) and received.times < EVER)

    def test_node_that_is_gone(
        self, shown: ShownCluster, store: RedisStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The connections to a node that has no slots any more are closed."""
        claim(store)
        until(lambda: shown.first.connections)
        monkeypatch.setattr(_timing, "SLOTS_EVERY", 0.0)
        shown.show((0, SLOTS - 1, shown.second.port))
        moved = f"-MOVED {shown.slot} 127.0.0.1:{shown.second.port}\r\n".encode()
        shown.first.faults.append(Fault(STEPS["contend"].needle, "refuse", reply=moved))
        contend(store)
        until(lambda: not shown.first.connections)


def claims(store: RedisStore) -> bool:
    try:
        claim(store)
    except StoreUnavailable:
        return False
    return True


def renew(store: RedisStore, *keys: str) -> list[bool | None]:
    renewals = [renewal(key, running()) for key in keys]
    return store.renew(renewals, restore_within_ms=HOUR)


def low_key(slot: int) -> str:
    """Return a key whose slot is below another."""
    keys = (f"IDEMPOTENT_{{{number}}}" for number in range(1000))
    return next(key for key in keys if slot_of(key) < slot)
