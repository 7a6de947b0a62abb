"""The contract of time: leases that are renewed, records that expire, requests that wait."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from flask_idempotent.stores.base import Busy, Claimed, Store
from flask_idempotent.testing.contract.support import (
    HOUR,
    KEY,
    claim,
    complete,
    contend,
    lapse,
    owner,
    release,
    renewal,
    response,
    running,
    take_over,
    until,
)


class RenewContract:
    """``Store.renew``."""

    def test_renewal_starts_the_lease_again(self, store: Store) -> None:
        """A renewed claim has its whole lease; a lapsed one is ours until a take-over."""
        claim(store, running())
        lapse(store)
        assert store.renew([renewal(running())], restore_within_ms=0) == [True]
        result = contend(store, running("bob"))
        assert isinstance(result, Busy)
        assert HOUR * 0.9 < result.lease_left_ms <= HOUR

    def test_renewal_restores_a_lost_record(self, store: Store) -> None:
        """A record that the store lost is restored as it was claimed, with a whole lease."""
        lost = running()._replace(attempt=3)
        assert store.renew([renewal(lost)], restore_within_ms=HOUR) == [True]
        assert store.read(KEY) == lost
        result = contend(store, running("bob"))
        assert isinstance(result, Busy)
        assert HOUR * 0.9 < result.lease_left_ms <= HOUR

    def test_renewal_that_comes_too_late(self, store: Store) -> None:
        """A renewal that is carried out after ``restore_within_ms`` restores nothing."""
        assert store.renew([renewal(running())], restore_within_ms=-1) == [None]
        assert store.read(KEY) is None

    def test_renewal_of_a_completed_key(self, store: Store) -> None:
        """A renewal never writes in progress over a response."""
        claim(store, running())
        complete(store, response())
        assert store.renew([renewal(running())], restore_within_ms=HOUR) == [False]
        assert store.read(KEY) == response()

    def test_renewal_of_anothers_claim(self, store: Store) -> None:
        """A claim that was taken over is reported as lost, and the other's is left alone."""
        claim(store, running("bob"))
        before = store.read(KEY)
        assert store.renew([renewal(running("ada"))], restore_within_ms=HOUR) == [False]
        assert store.read(KEY) == before

    def test_renewal_of_many(self, store: Store) -> None:
        """Each of many claims is renewed, or reported as lost, by itself."""
        claim(store, running("ada"), storage_key="IDEMPOTENT_{1}")
        claim(store, running("bob"), storage_key="IDEMPOTENT_{2}")
        renewals = [renewal(running("ada"), f"IDEMPOTENT_{{{number}}}") for number in (1, 2, 3)]
        assert store.renew(renewals, restore_within_ms=HOUR) == [True, False, True]

    def test_renewal_keeps_an_offer(self, store: Store) -> None:
        """A renewal keeps a late owner's response."""
        claim(store, running("bob"))
        complete(store, response("ada"))
        store.renew([renewal(running("bob"))], restore_within_ms=HOUR)
        release(store, "bob")
        assert store.read(KEY) == response("ada")

    def test_claim_sent_twice_keeps_an_offer(self, store: Store) -> None:
        """A claim that finds itself keeps a late owner's response."""
        claim(store, running("bob"))
        complete(store, response("ada"))
        contend(store, running("bob"))
        release(store, "bob")
        assert store.read(KEY) == response("ada")


class ExpiryContract:
    """``ttl_ms``: each record is kept for the time that it was written with, not for another's."""

    def test_claim_expires(self, store: Store) -> None:
        """A claim that nobody renews or completes is gone in the end."""
        store.claim(KEY, running(), ttl_ms=1)
        _assert_expired(store)

    def test_response_expires(self, store: Store) -> None:
        """A response is kept for its own time, which begins when it is stored."""
        claim(store, running())
        store.complete(KEY, response(), ttl_ms=1)
        _assert_expired(store)

    def test_offer_that_a_release_stores_expires(self, store: Store) -> None:
        """A late owner's response that takes a failed run's place is kept for its own time."""
        take_over(store)
        complete(store, response("ada"))
        assert store.release(KEY, owner("bob"), response_ttl_ms=1, tombstone_ttl_ms=HOUR)
        _assert_expired(store)

    def test_offer_that_contending_stores_expires(self, store: Store) -> None:
        """So is one that takes a dead run's place."""
        take_over(store)
        complete(store, response("ada"))
        lapse(store)
        assert store.contend(KEY, running("cyd"), ttl_ms=1, takeover=True) == response("ada")
        _assert_expired(store)

    def test_tombstone_expires(self, store: Store) -> None:
        """A tombstone is kept for its own time."""
        take_over(store)
        assert store.release(KEY, owner("bob"), response_ttl_ms=HOUR, tombstone_ttl_ms=1)
        _assert_expired(store)


class ListenContract:
    """``Store.listen`` and ``Store.close``."""

    def test_completion_wakes(self, store: Store) -> None:
        """A completion wakes the waiter with the response."""
        _assert_completion_wakes(store, 10)

    def test_completion_with_a_body_of_15_kb_wakes(self, store: Store) -> None:
        """So does one with a larger body."""
        _assert_completion_wakes(store, 15_000)

    def test_completion_with_a_body_of_17_kb_wakes(self, store: Store) -> None:
        """So does one that is too large for some servers' messages."""
        _assert_completion_wakes(store, 17_000)

    def test_completion_with_a_body_of_1_mb_wakes(self, store: Store) -> None:
        """So does a very large one."""
        _assert_completion_wakes(store, 1_000_000)

    def test_release_wakes(self, store: Store) -> None:
        """A release wakes the waiter with nothing: it claims again."""
        claim(store, running())
        with store.listen(KEY, 5) as waiter:
            release(store, "ada")
            until(lambda: waiter.notified)
            assert waiter.wait(0) is None

    def test_release_that_stores_an_offer_wakes(self, store: Store) -> None:
        """When a late owner's response takes a failed run's place, the waiter is woken."""
        take_over(store)
        complete(store, response("ada"))
        with store.listen(KEY, 5) as waiter:
            release(store, "bob")
            until(lambda: waiter.notified)

    def test_contend_that_stores_an_offer_wakes(self, store: Store) -> None:
        """When a late owner's response takes a dead run's place, the waiter is woken."""
        take_over(store)
        complete(store, response("ada"))
        with store.listen(KEY, 5) as waiter:
            lapse(store)
            contend(store, running("cyd"))
            until(lambda: waiter.notified)

    def test_all_waiters_wake(self, store: Store) -> None:
        """Every waiter on a key is notified of its completion."""
        claim(store, running())
        listening = threading.Barrier(17)

        def wait(_: int) -> object:
            with store.listen(KEY, 5) as waiter:
                listening.wait()
                return waiter.wait(5)

        with ThreadPoolExecutor(16) as pool:
            results = [pool.submit(wait, number) for number in range(16)]
            listening.wait()
            complete(store, response())
            assert [future.result() for future in results] == [response()] * 16

    def test_other_keys_are_silent(self, store: Store) -> None:
        """A waiter is notified of its own key alone."""
        other_key = "IDEMPOTENT_{other}"
        with store.listen(KEY, 5) as waiter, store.listen(other_key, 5) as other:
            store.complete(other_key, response(), ttl_ms=HOUR)
            assert other.wait(5) == response()
            assert waiter.wait(0) is None

    def test_listening_again(self, store: Store) -> None:
        """A waiter can listen again on a key that was left, and is notified."""
        for number in range(20):
            claim(store, running(f"n{number}"))
            with store.listen(KEY, 5) as waiter:
                release(store, f"n{number}")
                until(lambda: waiter.notified)

    def test_store_opens_again(self, store: Store) -> None:
        """A closed store opens again at its next use."""
        store.close()
        with store.listen(KEY, 5) as waiter:
            complete(store, response())
            assert waiter.wait(5) == response()


def _assert_expired(store: Store) -> None:
    until(lambda: store.read(KEY) is None)
    assert claim(store, running("dan", "two")) == Claimed(1)


def _assert_completion_wakes(store: Store, size: int) -> None:
    claim(store, running())
    with store.listen(KEY, 5) as waiter:
        complete(store, response(body=b"x" * size))
        assert waiter.wait(5) == response(body=b"x" * size)
