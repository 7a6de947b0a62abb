"""The contract of a claim: which request gets a key, and what the others get."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from flask_idempotent.records import RunningRecord
from flask_idempotent.stores.base import Busy, Claimed, Completion, Store
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
    response,
    running,
    switching_at_each_line,
    take_over,
    until,
)


def _race(ask: Callable[[Store, RunningRecord], object], store: Store) -> None:
    """Let eight requests ask at once; asserts that one of them has the key."""
    barrier = threading.Barrier(8)

    def run(number: int) -> object:
        barrier.wait()
        with switching_at_each_line(store):
            return ask(store, running(f"n{number}"))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, range(8)))
    winners = sum(isinstance(result, Claimed) for result in results)
    assert winners == 1, f"{winners} of 8 requests got the key: is the method atomic?"
    assert sum(isinstance(result, Busy | RunningRecord) for result in results) == 7


def _assert_lease_is_new(store: Store) -> None:
    """Assert that the key's lease has about the hour left that every lease has here."""
    result = contend(store, running("stranger", "another payload"), takeover=False)
    assert isinstance(result, Busy)
    assert HOUR * 0.9 < result.lease_left_ms <= HOUR


class ClaimContract:
    """``Store.claim``."""

    def test_claim_of_a_free_key(self, store: Store) -> None:
        """A key without a record gets the claimant's, as attempt 1."""
        assert claim(store, running()) == Claimed(1)
        assert store.read(KEY) == running()
        _assert_lease_is_new(store)

    def test_claim_of_anothers_key(self, store: Store) -> None:
        """Another request gets the record of the one that has the key, which stays as it is."""
        claim(store, running("ada"))
        assert claim(store, running("bob", "two")) == running("ada")
        assert claim(store, running("ada")) == running("ada")
        assert store.read(KEY) == running("ada")

    def test_claim_of_a_lapsed_key(self, store: Store) -> None:
        """A claim changes nothing where there is a record, not even one whose lease has ended."""
        claim(store, running("ada"))
        lapse(store)
        assert claim(store, running("bob")) == running("ada")
        assert contend(store, running("bob")) == Claimed(2, dead=running("ada"))

    def test_claim_of_a_tombstone(self, store: Store) -> None:
        """A released record is returned and stays; contending replaces it."""
        tombstone = leave_tombstone(store)
        assert claim(store, running("cyd")) == tombstone
        assert store.read(KEY) == tombstone

    def test_claim_of_a_key_with_an_offer(self, store: Store) -> None:
        """A record is returned as it is, also where a late owner's response waits in it."""
        take_over(store)
        complete(store, response("ada", body=bytes(100_000)))
        assert claim(store, running("cyd")) == running("bob")._replace(attempt=2)

    def test_claim_of_a_completed_key(self, store: Store) -> None:
        """The claim of a completed key returns the response, for any request."""
        claim(store, running())
        complete(store, response())
        assert claim(store, running("bob")) == response()
        assert claim(store, running("bob", "two")) == response()

    def test_claim_of_an_expired_key(self, store: Store) -> None:
        """A key whose response has expired is free."""
        store.complete(KEY, response(), ttl_ms=1)
        until(lambda: store.read(KEY) is None)
        assert claim(store, running("bob", "two")) == Claimed(1)

    def test_one_of_many_claims_wins(self, store: Store) -> None:
        """Of eight claims at once one has the key, and the others learn of it."""
        _race(claim, store)


class ContendContract:
    """``Store.contend``."""

    def test_contend_for_a_free_key(self, store: Store) -> None:
        """A key whose record is gone by then is claimed as attempt 1."""
        assert contend(store, running()) == Claimed(1)
        assert store.read(KEY) == running()
        _assert_lease_is_new(store)

    def test_contend_with_a_running_owner(self, store: Store) -> None:
        """While the first runs, another learns its fingerprint and how long its lease lasts."""
        claim(store, running("ada"))
        result = contend(store, running("bob", "two"))
        assert isinstance(result, Busy)
        assert (result.fingerprint, result.started) == (running("ada").fingerprint, 1.5)
        assert 0 < result.lease_left_ms <= HOUR

    def test_contend_for_ones_own_key(self, store: Store) -> None:
        """A claim whose reply was lost finds itself, and its lease starts again."""
        claim(store, running())
        lapse(store)
        assert contend(store, running(), takeover=False) == Claimed(1)
        _assert_lease_is_new(store)

    def test_contend_for_ones_own_key_with_another_ttl(self, store: Store) -> None:
        """A claim that finds itself is kept for as long as it asks for then."""
        claim(store, running())
        store.contend(KEY, running(), ttl_ms=5 * HOUR, takeover=True)
        result = contend(store, running("bob"))
        assert isinstance(result, Busy)
        assert 3 * HOUR < result.lease_left_ms <= 4 * HOUR

    def test_contend_again_after_a_take_over(self, store: Store) -> None:
        """A take-over whose reply was lost finds itself with its attempt number."""
        take_over(store)
        assert contend(store, running("bob")) == Claimed(2)

    def test_contend_for_a_completed_key(self, store: Store) -> None:
        """Contending for a completed key returns the response, for any request."""
        complete(store, response("ada", "one"))
        assert contend(store, running("bob")) == response("ada", "one")
        assert contend(store, running("bob", "two")) == response("ada", "one")

    def test_contend_for_a_lapsed_key(self, store: Store) -> None:
        """After a lapsed lease the next run is attempt 2, with a lease of its own."""
        take_over(store)
        assert isinstance(contend(store, running("cyd")), Busy)
        assert store.read(KEY) == running("bob")._replace(attempt=2)
        _assert_lease_is_new(store)

    def test_contend_without_take_over(self, store: Store) -> None:
        """Where no request may take over, a lapsed claim stays, without a lease."""
        claim(store, running("ada"))
        lapse(store)
        result = contend(store, running("bob"), takeover=False)
        assert isinstance(result, Busy)
        assert result.lease_left_ms <= 0

    def test_contend_with_another_payload(self, store: Store) -> None:
        """A lapsed claim stays bound to its fingerprint: another payload never takes it over."""
        claim(store, running("ada", "one"))
        lapse(store)
        result = contend(store, running("bob", "two"))
        assert isinstance(result, Busy)
        assert result.fingerprint == running("ada", "one").fingerprint

    def test_one_of_many_that_contend_wins(self, store: Store) -> None:
        """Of eight that contend at once one has the key, and the others learn of it."""
        _race(contend, store)

    def test_one_of_many_that_take_over_wins(self, store: Store) -> None:
        """Of eight that contend at once for a dead owner's key, one takes it over."""
        claim(store, running("ada"))
        lapse(store)
        _race(contend, store)


class CorrectionContract:
    """``Store.contend`` with ``replaces``: a corrected request runs in place of a response."""

    def test_correction_takes_the_key(self, store: Store) -> None:
        """The claim is the next attempt, whose record is like any other."""
        complete(store, response("ada", attempt=4))
        two = running("bob", "two")
        assert contend(store, two, replaces=owner("ada")) == Claimed(5, 5)
        assert store.read(KEY) == two._replace(attempt=5, first_attempt=5)
        assert isinstance(contend(store, running("cyd", "two")), Busy)
        _assert_lease_is_new(store)

    def test_correction_sent_twice(self, store: Store) -> None:
        """A correction whose reply was lost finds itself."""
        complete(store, response("ada"))
        for _ in "12":
            result = contend(store, running("bob", "two"), replaces=owner("ada"))
            assert result == Claimed(2, 2)

    def test_one_of_two_corrections(self, store: Store) -> None:
        """Of two that correct the same response one runs, and the other learns of it."""
        complete(store, response("ada"))
        contend(store, running("bob", "two"), replaces=owner("ada"))
        result = contend(store, running("cyd", "three"), replaces=owner("ada"))
        assert isinstance(result, Busy)
        assert result.fingerprint == running("bob", "two").fingerprint
        refusal = response("bob", "two")._replace(operation=b"o" * 16)
        complete(store, refusal)
        assert contend(store, running("cyd", "three"), replaces=owner("ada")) == refusal

    def test_correction_refuses_earlier_runs(self, store: Store) -> None:
        """The response of a run from before the correction is neither stored nor offered."""
        take_over(store)
        complete(store, response("bob", attempt=2))
        contend(store, running("cyd", "two"), replaces=owner("bob"))
        _assert_earlier_runs_are_refused(store)

    def test_correction_back_refuses_earlier_runs(self, store: Store) -> None:
        """The same holds when a second correction returns to the first payload."""
        take_over(store)
        complete(store, response("bob", attempt=2))
        contend(store, running("cyd", "two"), replaces=owner("bob"))
        complete(store, response("cyd", "two", attempt=3))
        result = contend(store, running("dan", "one"), replaces=owner("cyd"))
        assert result == Claimed(4, 4)
        _assert_earlier_runs_are_refused(store)

    def test_correction_discards_an_offer(self, store: Store) -> None:
        """A late owner's response that lost to another's does not come back after a correction."""
        take_over(store)
        complete(store, response("ada"))
        complete(store, response("bob", attempt=2))
        contend(store, running("cyd", "two"), replaces=owner("bob"))
        release(store, "cyd")
        assert contend(store, running("dan", "two")) == Claimed(4, 3)

    def test_correction_that_gives_up(self, store: Store) -> None:
        """A corrected request that fails leaves a tombstone: the attempt number continues."""
        complete(store, response("ada"))
        contend(store, running("bob", "two"), replaces=owner("ada"))
        release(store, "bob")
        assert contend(store, running("cyd")) == Claimed(3, 3)

    def test_correction_of_a_free_key(self, store: Store) -> None:
        """Where the response has gone, a correction is a claim like any other."""
        assert contend(store, running("cyd"), replaces=owner("ada")) == Claimed(1)

    def test_correction_of_a_running_claim(self, store: Store) -> None:
        """Only a completed record is replaced: a claim of the same owner is not."""
        claim(store, running("ada"))
        assert isinstance(contend(store, running("cyd"), replaces=owner("ada")), Busy)

    def test_correction_of_a_tombstone(self, store: Store) -> None:
        """A released record is followed by the next attempt, as without a correction."""
        leave_tombstone(store)
        assert contend(store, running("cyd"), replaces=owner("ada")) == Claimed(3)


def _assert_earlier_runs_are_refused(store: Store) -> None:
    before = store.read(KEY)
    for name, attempt in (("ada", 1), ("bob", 2)):
        assert complete(store, response(name, attempt=attempt)) is Completion.REFUSED
        assert store.renew([renewal(running(name))], restore_within_ms=HOUR) == [False]
        assert release(store, name) is False
    assert store.read(KEY) == before
