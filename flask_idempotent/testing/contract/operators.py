"""The contract of a store whose records operators inspect."""

from __future__ import annotations

from flask_idempotent.record_format import encode
from flask_idempotent.records import CompletedSummary, RunningRecord
from flask_idempotent.stores.base import Completion
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.testing.contract.support import (
    HOUR,
    KEY,
    claim,
    complete,
    contend,
    lapse,
    leave_tombstone,
    owner,
    release,
    renewal,
    resolve,
    response,
    running,
    take_over,
    until,
)


class InspectContract:
    """``InspectableStore.inspect``, and how long records are kept."""

    def test_inspect_a_claim(self, store: InspectableStore) -> None:
        """A claim is seen with its size, what is left of its lease, and who waits for it."""
        claim(store, running())
        with store.listen(KEY, 5):
            (info,) = store.inspect([KEY])
        assert (info.storage_key, info.record, info.owner) == (KEY, running(), owner("ada"))
        assert info.lease_left_ms is not None
        assert 0 < info.lease_left_ms <= HOUR < info.ttl_ms <= 2 * HOUR
        assert info.size >= len(encode(running()))
        assert (info.waiters in (1, None), info.lease_lapsed) == (True, False)

    def test_inspect_a_lapsed_claim_with_an_offer(self, store: InspectableStore) -> None:
        """A lapsed claim is seen as one, also where a late owner's response waits in it."""
        take_over(store)
        complete(store, response("ada", body=b"late" * 1000))
        lapse(store)
        (info,) = store.inspect([KEY])
        assert isinstance(info.record, RunningRecord)
        assert (info.record.owner, info.record.attempt) == (owner("bob"), 2)
        assert info.lease_lapsed
        assert info.size > 4000

    def test_inspect_a_response(self, store: InspectableStore) -> None:
        """A completed record is seen without its body."""
        _assert_response_is_seen(store, 0)

    def test_inspect_a_large_response(self, store: InspectableStore) -> None:
        """So is a large one."""
        _assert_response_is_seen(store, 100_000)

    def test_inspect_a_tombstone(self, store: InspectableStore) -> None:
        """A tombstone is seen as one, without a lease, and has an end."""
        tombstone = leave_tombstone(store)
        (info,) = store.inspect([KEY])
        assert info.record == tombstone
        assert (info.lease_left_ms, info.lease_lapsed) == (None, False)
        assert 0 < info.ttl_ms <= HOUR

    def test_inspect_an_offer_that_was_released(self, store: InspectableStore) -> None:
        """A late owner's response that replaces a failed run is kept for its own time to live."""
        take_over(store)
        complete(store, response("ada"))
        release(store, "bob")
        (info,) = store.inspect([KEY])
        assert 0 < info.ttl_ms <= HOUR

    def test_inspect_an_offer_after_a_crash(self, store: InspectableStore) -> None:
        """One that replaces a dead run is kept for as long as the request asked for."""
        take_over(store)
        complete(store, response("ada"))
        lapse(store)
        contend(store, running("cyd"))
        (info,) = store.inspect([KEY])
        assert 0 < info.ttl_ms <= 2 * HOUR

    def test_inspect_many(self, store: InspectableStore) -> None:
        """Many records are inspected, in batches; those that are gone are left out."""
        for number in range(0, 1200, 2):
            store.complete(f"{KEY}{number}", response(), ttl_ms=HOUR)
        seen = list(store.inspect(f"{KEY}{number}" for number in range(1200)))
        assert [info.storage_key for info in seen] == [f"{KEY}{n}" for n in range(0, 1200, 2)]


class ResolveContract:
    """``InspectableStore.resolve`` and ``read_offer``."""

    def test_resolve(self, store: InspectableStore) -> None:
        """An operator's answer replaces a lapsed claim and wakes the waiters; twice is once."""
        claim(store, running("ada"))
        lapse(store)
        with store.listen(KEY, 5) as waiter:
            assert resolve(store, "ada") is True
            until(lambda: waiter.notified)
        assert store.read(KEY) == response("operator")
        assert resolve(store, "ada") is True

    def test_resolve_refuses_the_late_owner(self, store: InspectableStore) -> None:
        """What the owner answers after that is refused, and so is its renewal."""
        claim(store, running("ada"))
        lapse(store)
        resolve(store, "ada")
        assert complete(store, response("ada")) is Completion.REFUSED
        assert store.renew([renewal(running("ada"))], restore_within_ms=HOUR) == [False]
        assert store.read(KEY) == response("operator")

    def test_resolve_keeps_the_longer_time(self, store: InspectableStore) -> None:
        """The answer is kept as long as was asked for, or as long as the claim would have been."""
        claim(store, running("ada"))
        lapse(store)
        resolve(store, "ada", ttl_ms=1)
        (info,) = store.inspect([KEY])
        assert HOUR / 2 < info.ttl_ms <= HOUR
        store.delete([KEY])
        claim(store, running("ada"))
        lapse(store)
        resolve(store, "ada", ttl_ms=3 * HOUR)
        (info,) = store.inspect([KEY])
        assert 2 * HOUR < info.ttl_ms <= 3 * HOUR

    def test_resolve_running(self, store: InspectableStore) -> None:
        """A claim whose lease runs is left alone, unless that is asked for."""
        claim(store, running("ada"))
        assert resolve(store, "ada") is False
        assert store.read(KEY) == running("ada")
        assert resolve(store, "ada", even_running=True) is True
        assert store.read(KEY) == response("operator")

    def test_resolve_what_came_since(self, store: InspectableStore) -> None:
        """A key that another has claimed since, that is completed, released or free is left."""
        assert resolve(store, "ada") is False
        take_over(store)
        assert resolve(store, "ada", even_running=True) is False
        release(store, "bob")
        assert resolve(store, "bob", even_running=True) is False
        complete(store, response("bob", attempt=2))
        assert resolve(store, "bob", even_running=True) is False
        assert store.read(KEY) == response("bob", attempt=2)

    def test_offer(self, store: InspectableStore) -> None:
        """A late owner's response that waits in another's record can be read there."""
        assert store.read_offer(KEY) is None
        take_over(store)
        assert store.read_offer(KEY) is None
        complete(store, response("ada"))
        assert store.read_offer(KEY) == response("ada")
        lapse(store)
        assert resolve(store, "bob") is True
        assert store.read_offer(KEY) is None


class RemovalContract:
    """``InspectableStore.scan``, ``delete``, ``discard`` and ``ping``."""

    def test_scan(self, store: InspectableStore) -> None:
        """Scanning finds the records of a prefix, taken literally, and no others."""
        for key in ("I*_{1}", "I*_{2}", "IX_{3}"):
            claim(store, running(), storage_key=key)
        assert sorted(set(store.scan("I*_"))) == ["I*_{1}", "I*_{2}"]

    def test_delete(self, store: InspectableStore) -> None:
        """Deleting counts what was there and wakes the waiters."""
        claim(store, running())
        with store.listen(KEY, 5) as waiter:
            assert store.delete([KEY, "IDEMPOTENT_{none}"]) == 1
            until(lambda: waiter.notified)
        assert store.read(KEY) is None

    def test_delete_nothing(self, store: InspectableStore) -> None:
        """Deleting no keys deletes none."""
        assert store.delete([]) == 0

    def test_delete_many(self, store: InspectableStore) -> None:
        """A purge deletes more records than one command should name, while it scans."""
        for number in range(600):
            store.complete(f"{KEY}{number}", response(), ttl_ms=HOUR)
        assert store.delete(store.scan(KEY)) == 600
        assert list(store.scan(KEY)) == []

    def test_discard(self, store: InspectableStore) -> None:
        """Discarding deletes a record that is still the one that was seen, and wakes waiters."""
        claim(store, running())
        (info,) = store.inspect([KEY])
        with store.listen(KEY, 5) as waiter:
            assert store.discard([info]) == 1
            until(lambda: waiter.notified)
        assert store.read(KEY) is None
        assert store.discard([info]) == 0

    def test_discard_what_came_since(self, store: InspectableStore) -> None:
        """A record that another owner has written since is left alone."""
        complete(store, response("ada"))
        (info,) = store.inspect([KEY])
        store.delete([KEY])
        claim(store, running("bob"))
        assert store.discard([info]) == 0
        assert isinstance(store.read(KEY), RunningRecord)

    def test_ping(self, store: InspectableStore) -> None:
        """A living store answers, also one that was closed."""
        store.ping()
        store.close()
        store.ping()

    def test_facts(self, store: InspectableStore) -> None:
        """A store reports facts about its server by name, or none."""
        assert all(map(all, store.facts()))


def _assert_response_is_seen(store: InspectableStore, size: int) -> None:
    record = response(body=bytes(size))
    complete(store, record)
    (info,) = store.inspect([KEY])
    assert info.record == CompletedSummary(1, 201, 2.5, "POST", "orders")
    assert 0 < info.ttl_ms <= HOUR
    assert info.size >= len(encode(record))
    assert (info.lease_left_ms, info.lease_lapsed) == (None, False)
