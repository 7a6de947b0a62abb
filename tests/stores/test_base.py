"""The contract of a store, over every store there is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_idempotent.record_format import encode
from flask_idempotent.records import CompletedSummary, ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import (
    Busy,
    Claimed,
    ClaimResult,
    Completion,
    ContendResult,
    InspectableStore,
    Renewal,
)
from tests.stores.harness import (
    ENDS,
    HOUR,
    NEVER,
    answer,
    expire,
    lapse,
    owner,
    released,
    renewal,
    running,
    time_left,
)
from tests.support.polling import until

KEY = "IDEMPOTENT_{contract}"


def claim(store: InspectableStore, record: RunningRecord, *, key: str = KEY) -> ClaimResult:
    return store.claim(key, record, ttl_ms=2 * HOUR)


def contend(
    store: InspectableStore, record: RunningRecord, *, takeover: bool = True
) -> ContendResult:
    return store.contend(KEY, record, ttl_ms=2 * HOUR, takeover=takeover)


def correct(store: InspectableStore, record: RunningRecord, replaces: str) -> ContendResult:
    return store.contend(KEY, record, ttl_ms=2 * HOUR, takeover=True, replaces=owner(replaces))


class TestClaim:
    def test_free_key_is_ours(self, store: InspectableStore) -> None:
        """A key without a record gets the claimant's, as attempt 1."""
        assert claim(store, running()) == Claimed(1)
        assert store.read(KEY) == running()

    def test_record_outlives_its_lease(self, store: InspectableStore) -> None:
        """The record is kept for its time to live, not for its lease: a crash can be seen."""
        claim(store, running())
        assert HOUR < time_left(store, KEY) <= 2 * HOUR

    def test_another_gets_the_record(self, store: InspectableStore) -> None:
        """Another request gets the record of the one that has the key, which stays as it is."""
        claim(store, running("ada"))
        assert claim(store, running("bob", "two")) == running("ada")
        assert claim(store, running("ada")) == running("ada")
        assert store.read(KEY) == running("ada")

    def test_lapsed_claim_stays(self, store: InspectableStore) -> None:
        """A claim changes nothing where there is a record, not even one whose lease has ended."""
        claim(store, running("ada"))
        lapse(store, KEY)
        assert claim(store, running("bob")) == running("ada")
        assert time_left(store, KEY) <= HOUR
        assert contend(store, running("bob")) == Claimed(2, dead=running("ada"))

    def test_tombstone_stays(self, store: InspectableStore) -> None:
        """The record of a claim that was given up comes back: contending takes its place."""
        bob = leave_tombstone(store)
        assert claim(store, running("cyd")) == released(bob)
        assert store.read(KEY) == released(bob)

    def test_late_owners_response_stays(self, store: InspectableStore) -> None:
        """A record is returned as it is, also where a late owner's response waits in it."""
        claim(store, running("ada"))
        lapse(store, KEY)
        contend(store, running("bob"))
        store.complete(KEY, answer("ada", body=bytes(100_000)), ttl_ms=HOUR)
        assert claim(store, running("cyd")) == running("bob")._replace(attempt=2)

    def test_completed_record_comes_along(self, store: InspectableStore) -> None:
        """The claim of a completed key returns the response, whoever asks."""
        claim(store, running())
        store.complete(KEY, answer(), ttl_ms=HOUR)
        assert claim(store, running("bob")) == answer()
        assert claim(store, running("bob", "two")) == answer()

    def test_expired_key_is_new(self, store: InspectableStore) -> None:
        """C5: after expire the key is free."""
        claim(store, running())
        store.complete(KEY, answer(), ttl_ms=HOUR)
        expire(store, KEY)
        assert claim(store, running("bob", "two")) == Claimed(1)

    @pytest.mark.parametrize("ask", [claim, contend])
    def test_one_of_many_wins(
        self, store: InspectableStore, ask: Callable[[InspectableStore, RunningRecord], object]
    ) -> None:
        """Of 32 requests at once one has the key, and the others learn of it."""
        barrier = threading.Barrier(32)

        def race(number: int) -> object:
            barrier.wait()
            return ask(store, running(f"n{number}"))

        with ThreadPoolExecutor(32) as pool:
            results = list(pool.map(race, range(32)))
        assert sum(isinstance(result, Claimed) for result in results) == 1
        assert sum(isinstance(result, Busy | RunningRecord) for result in results) == 31


class TestContend:
    def test_free_key_is_ours(self, store: InspectableStore) -> None:
        """A key whose record has gone meanwhile is claimed as attempt 1."""
        assert contend(store, running()) == Claimed(1)
        assert store.read(KEY) == running()
        assert HOUR < time_left(store, KEY) <= 2 * HOUR

    def test_another_has_to_wait(self, store: InspectableStore) -> None:
        """While the first runs, another learns its fingerprint and how long its lease lasts."""
        claim(store, running("ada"))
        result = contend(store, running("bob", "two"))
        assert isinstance(result, Busy)
        assert (result.fingerprint, result.started) == (running("ada").fingerprint, 1.5)
        assert 0 < result.lease_left_ms <= HOUR

    def test_same_owner_finds_itself(self, store: InspectableStore) -> None:
        """A claim whose reply was lost finds itself, and starts its lease again."""
        claim(store, running())
        lapse(store, KEY)
        assert contend(store, running(), takeover=False) == Claimed(1)
        assert time_left(store, KEY) > HOUR
        assert isinstance(contend(store, running("bob")), Busy)

    def test_same_owner_is_kept_for_as_long_as_it_says_last(self, store: InspectableStore) -> None:
        """A record that finds itself is kept for the new time to live."""
        claim(store, running())
        store.contend(KEY, running(), ttl_ms=5 * HOUR, takeover=True)
        assert time_left(store, KEY) > 4 * HOUR

    def test_take_over_finds_itself(self, store: InspectableStore) -> None:
        """A take-over whose reply was lost finds itself with its attempt number."""
        claim(store, running("ada"))
        lapse(store, KEY)
        contend(store, running("bob"))
        assert contend(store, running("bob")) == Claimed(2)

    def test_completed_record_comes_along(self, store: InspectableStore) -> None:
        """Whoever contends for a completed key gets the response, for any request."""
        store.complete(KEY, answer("ada", "one"), ttl_ms=HOUR)
        assert contend(store, running("bob")) == answer("ada", "one")
        assert contend(store, running("bob", "two")) == answer("ada", "one")

    def test_lapsed_claim_is_taken_over(self, store: InspectableStore) -> None:
        """After a lapsed lease the next run is attempt 2, and has the whole record's life again."""
        claim(store, running("ada"))
        lapse(store, KEY)
        assert contend(store, running("bob")) == Claimed(2, 1, dead=running("ada"))
        assert isinstance(contend(store, running("cyd")), Busy)
        record = store.read(KEY)
        assert isinstance(record, RunningRecord)
        assert (record.owner, record.attempt) == (owner("bob"), 2)
        assert HOUR < time_left(store, KEY) <= 2 * HOUR

    def test_lapsed_claim_is_held(self, store: InspectableStore) -> None:
        """Where nobody may take over, a lapsed claim is one whose lease has no time left."""
        claim(store, running("ada"))
        lapse(store, KEY)
        result = contend(store, running("bob"), takeover=False)
        assert isinstance(result, Busy)
        assert result.lease_left_ms <= 0

    def test_other_payload_never_takes_over(self, store: InspectableStore) -> None:
        """A lapsed claim stays bound to its fingerprint."""
        claim(store, running("ada", "one"))
        lapse(store, KEY)
        result = contend(store, running("bob", "two"))
        assert isinstance(result, Busy)
        assert result.fingerprint == running("ada", "one").fingerprint


class TestCorrected:
    """C7: a corrected request takes the place of a response that it knows of."""

    def test_takes_the_key(self, store: InspectableStore) -> None:
        """The claim is the next attempt, whose record is like any other's."""
        store.complete(KEY, answer("ada")._replace(attempt=4), ttl_ms=HOUR)
        two = running("bob", "two")
        assert correct(store, two, "ada") == Claimed(5, 5)
        assert store.read(KEY) == two._replace(attempt=5, first_attempt=5)
        assert HOUR < time_left(store, KEY) <= 2 * HOUR
        assert isinstance(contend(store, running("cyd", "two")), Busy)

    def test_second_sending_succeeds(self, store: InspectableStore) -> None:
        """A claim that is sent again finds itself."""
        store.complete(KEY, answer("ada"), ttl_ms=HOUR)
        for _ in "12":
            assert correct(store, running("bob", "two"), "ada") == Claimed(2, 2)

    def test_one_of_two(self, store: InspectableStore) -> None:
        """Of two that correct the same response one runs, and the other learns of it."""
        store.complete(KEY, answer("ada"), ttl_ms=HOUR)
        correct(store, running("bob", "two"), "ada")
        result = correct(store, running("cyd", "three"), "ada")
        assert isinstance(result, Busy)
        assert result.fingerprint == running("bob", "two").fingerprint
        refusal = answer("bob", "two")._replace(operation=b"o" * 16)
        store.complete(KEY, refusal, ttl_ms=HOUR)
        assert correct(store, running("cyd", "three"), "ada") == refusal

    @pytest.mark.parametrize("payload", ["one", "two"])
    def test_earlier_runs_are_refused(self, store: InspectableStore, payload: str) -> None:
        """What was to be stored for the key before is not stored any more, nor kept for later."""
        claim(store, running("ada"))
        lapse(store, KEY)
        contend(store, running("bob"))
        store.complete(KEY, answer("bob")._replace(attempt=2), ttl_ms=HOUR)
        correct(store, running("cyd", "two"), "bob")
        if payload == "one":
            store.complete(KEY, answer("cyd", "two")._replace(attempt=3), ttl_ms=HOUR)
            assert correct(store, running("dan", "one"), "cyd") == Claimed(4, 4)
        before = store.read(KEY)
        for name, attempt in (("ada", 1), ("bob", 2)):
            late = answer(name)._replace(attempt=attempt)
            assert store.complete(KEY, late, ttl_ms=HOUR) is Completion.REFUSED
            assert store.renew([renewal(KEY, running(name))], until=NEVER) == [False]
            assert store.release(KEY, owner(name), **ENDS) is False
        assert store.read(KEY) == before

    def test_gives_up(self, store: InspectableStore) -> None:
        """A corrected request that fails leaves a tombstone: the number goes on."""
        store.complete(KEY, answer("ada"), ttl_ms=HOUR)
        correct(store, running("bob", "two"), "ada")
        store.release(KEY, owner("bob"), **ENDS)
        assert contend(store, running("cyd")) == Claimed(3, 3)

    @pytest.mark.parametrize("state", ["free", "in progress", "released"])
    def test_of_something_else(self, store: InspectableStore, state: str) -> None:
        """Where no such response stands, it is a claim as any other."""
        if state == "in progress":
            claim(store, running("ada"))
        if state == "released":
            leave_tombstone(store)
        reply = correct(store, running("cyd"), "ada")
        expected = {"free": Claimed(1), "released": Claimed(3)}.get(state)
        assert reply == expected or (expected is None and isinstance(reply, Busy))


class TestComplete:
    def test_response_is_stored(self, store: InspectableStore) -> None:
        """The owner's response is stored for expire."""
        claim(store, running())
        assert store.complete(KEY, answer(), ttl_ms=HOUR) is Completion.STORED
        assert store.read(KEY) == answer()
        assert 0 < time_left(store, KEY) <= HOUR

    def test_second_sending_succeeds(self, store: InspectableStore) -> None:
        """A completion whose reply was lost succeeds again and changes nothing."""
        claim(store, running())
        store.complete(KEY, answer(), ttl_ms=HOUR)
        assert store.complete(KEY, answer(), ttl_ms=HOUR) is Completion.STORED
        assert store.read(KEY) == answer()

    def test_lost_record_is_put_in_place(self, store: InspectableStore) -> None:
        """A response is stored even where the record in progress is gone."""
        assert store.complete(KEY, answer(), ttl_ms=HOUR) is Completion.STORED
        assert store.read(KEY) == answer()

    def test_marker_is_stored(self, store: InspectableStore) -> None:
        """A response that is not kept leaves a marker without a body."""
        claim(store, running())
        store.complete(KEY, answer(body=None), ttl_ms=HOUR)
        assert contend(store, running("bob")) == answer(body=None)

    def test_late_owner_does_not_overwrite(self, store: InspectableStore) -> None:
        """A late owner's response waits while another runs, whose response then stands."""
        claim(store, running("ada"))
        lapse(store, KEY)
        contend(store, running("bob"))
        assert store.complete(KEY, answer("ada", body=b"late"), ttl_ms=HOUR) is Completion.OFFERED
        assert isinstance(contend(store, running("cyd")), Busy)
        assert isinstance(store.read(KEY), RunningRecord)
        assert store.complete(KEY, answer("bob"), ttl_ms=HOUR) is Completion.STORED
        assert store.read(KEY) == answer("bob")

    def test_anothers_response_stands(self, store: InspectableStore) -> None:
        """A late owner finds another's response and leaves it."""
        claim(store, running("bob"))
        store.complete(KEY, answer("bob"), ttl_ms=HOUR)
        assert store.complete(KEY, answer("ada"), ttl_ms=HOUR) is Completion.REFUSED
        assert store.read(KEY) == answer("bob")

    def test_other_payload_is_refused(self, store: InspectableStore) -> None:
        """A late owner whose key was lost and reused for another payload offers nothing."""
        claim(store, running("bob", "two"))
        assert store.complete(KEY, answer("ada", "one"), ttl_ms=HOUR) is Completion.REFUSED
        assert store.release(KEY, owner("bob"), **ENDS)
        assert store.read(KEY) is None

    def test_first_offer_stands(self, store: InspectableStore) -> None:
        """Of two late owners the first one's response is kept."""
        claim(store, running("cyd"))
        store.complete(KEY, answer("ada", body=b"first"), ttl_ms=HOUR)
        store.complete(KEY, answer("bob", body=b"second"), ttl_ms=HOUR)
        store.release(KEY, owner("cyd"), **ENDS)
        assert store.read(KEY) == answer("ada", body=b"first")


class TestRelease:
    def test_owner_may_run(self, store: InspectableStore) -> None:
        """Given up by somebody else, a claim leaves a tombstone, even that of a first attempt.

        Its owner's renewal does not bring it back, its response is stored, and the next attempt
        has a higher number.
        """
        claim(store, running())
        assert store.release(KEY, owner("ada"), owner_may_run=True, **ENDS) is True
        assert store.read(KEY) == released(running())
        assert store.renew([Renewal(KEY, running(), HOUR)], until=NEVER) == [False]
        assert contend(store, running("bob")) == Claimed(2)
        assert store.release(KEY, owner("bob"), **ENDS) is True
        assert store.complete(KEY, answer("ada"), ttl_ms=HOUR) is Completion.STORED

    def test_key_is_free_again(self, store: InspectableStore) -> None:
        """A released key is claimed by the next, whatever its payload."""
        claim(store, running())
        assert store.release(KEY, owner("ada"), **ENDS) is True
        assert store.read(KEY) is None
        assert isinstance(contend(store, running("bob", "two")), Claimed)

    def test_second_sending_succeeds(self, store: InspectableStore) -> None:
        """A release whose reply was lost finds nothing to do."""
        claim(store, running())
        store.release(KEY, owner("ada"), **ENDS)
        assert store.release(KEY, owner("ada"), **ENDS) is False

    def test_anothers_claim_is_left_alone(self, store: InspectableStore) -> None:
        """Nobody releases another's claim."""
        claim(store, running("bob"))
        assert store.release(KEY, owner("ada"), **ENDS) is False
        assert isinstance(store.read(KEY), RunningRecord)

    def test_response_is_left_alone(self, store: InspectableStore) -> None:
        """Not even the owner releases what is completed."""
        claim(store, running())
        store.complete(KEY, answer(), ttl_ms=HOUR)
        assert store.release(KEY, owner("ada"), **ENDS) is False
        assert store.read(KEY) == answer()

    @pytest.mark.parametrize("size", [10, 100_000])
    def test_late_response_takes_the_place(self, store: InspectableStore, size: int) -> None:
        """When the other run fails, the late owner's response is stored: no third run."""
        late = answer("ada", body=b"x" * size)
        claim(store, running("ada"))
        lapse(store, KEY)
        contend(store, running("bob"))
        store.complete(KEY, late, ttl_ms=HOUR)
        assert store.release(KEY, owner("bob"), **ENDS) is True
        assert contend(store, running("cyd")) == late
        assert 0 < time_left(store, KEY) <= HOUR

    def test_late_response_is_used_after_a_crash(self, store: InspectableStore) -> None:
        """When the other run's owner dies too, the late owner's response is stored."""
        claim(store, running("ada"))
        lapse(store, KEY)
        contend(store, running("bob"))
        store.complete(KEY, answer("ada"), ttl_ms=HOUR)
        lapse(store, KEY)
        assert contend(store, running("cyd")) == answer("ada")
        assert store.read(KEY) == answer("ada")
        assert 0 < time_left(store, KEY) <= 2 * HOUR


def leave_tombstone(store: InspectableStore, payload: str = "one") -> RunningRecord:
    """Let ada run into her lease's end, and bob, who takes over, give up; bob's record."""
    claim(store, running("ada", payload))
    lapse(store, KEY)
    contend(store, running("bob", payload))
    assert store.release(KEY, owner("bob"), **ENDS) is True
    return running("bob", payload)._replace(attempt=2)


class TestTombstone:
    def test_stays_where_an_earlier_owner_may_run(self, store: InspectableStore) -> None:
        """A second attempt that gives up leaves its number and fingerprint, and has an end."""
        bob = leave_tombstone(store)
        assert store.read(KEY) == released(bob)
        assert 0 < time_left(store, KEY) <= HOUR

    def test_number_goes_on(self, store: InspectableStore) -> None:
        """After a crash and a failed take-over the third run is attempt 3, not 1."""
        leave_tombstone(store)
        record = running("cyd")
        reply = contend(store, record, takeover=False)
        assert reply == Claimed(3, 1)
        assert store.read(KEY) == record._replace(attempt=3)
        assert HOUR < time_left(store, KEY) <= 2 * HOUR
        assert isinstance(contend(store, running("dan")), Busy)

    def test_binds_nobody(self, store: InspectableStore) -> None:
        """Another payload may have the key; what the first's runs answer is refused then."""
        leave_tombstone(store)
        assert contend(store, running("cyd", "two")) == Claimed(3, 3)
        assert store.complete(KEY, answer("ada"), ttl_ms=HOUR) is Completion.REFUSED

    def test_is_left_by_each_later_attempt(self, store: InspectableStore) -> None:
        """The number goes on however often the key is given up."""
        leave_tombstone(store)
        for attempt in range(3, 6):
            assert contend(store, running(f"n{attempt}")) == Claimed(attempt, 1)
            store.release(KEY, owner(f"n{attempt}"), **ENDS)

    def test_second_sending_succeeds(self, store: InspectableStore) -> None:
        """A release whose reply was lost finds its tombstone and nothing to do."""
        leave_tombstone(store)
        assert store.release(KEY, owner("bob"), **ENDS) is False
        assert isinstance(store.read(KEY), ReleasedRecord)

    @pytest.mark.parametrize("name", ["ada", "bob"])
    def test_renewal_is_lost(self, store: InspectableStore, name: str) -> None:
        """Whoever meets a tombstone has lost the claim, and puts nothing back."""
        leave_tombstone(store)
        before = store.read(KEY)
        assert store.renew([renewal(KEY, running(name))], until=NEVER) == [False]
        assert store.read(KEY) == before

    @pytest.mark.parametrize("name", ["ada", "bob"])
    def test_late_response_is_stored(self, store: InspectableStore, name: str) -> None:
        """A view that ran to its end after all is not run again: its response takes the place."""
        leave_tombstone(store)
        with store.listen(KEY, 5) as waiter:
            assert store.complete(KEY, answer(name), ttl_ms=HOUR) is Completion.STORED
            until(lambda: waiter.notified)
        assert contend(store, running("cyd")) == answer(name)

    def test_other_response_is_refused(self, store: InspectableStore) -> None:
        """A response to another payload does not take a tombstone's place."""
        leave_tombstone(store)
        assert store.complete(KEY, answer("ada", "two"), ttl_ms=HOUR) is Completion.REFUSED
        assert isinstance(store.read(KEY), ReleasedRecord)

    @pytest.mark.parametrize("state", ["in progress", "released", "taken over", "put back"])
    def test_runs_before_another_payload_are_refused(
        self, store: InspectableStore, state: str
    ) -> None:
        """When the key had another payload meanwhile, its first runs are of another time."""
        leave_tombstone(store)
        contend(store, running("cyd", "two"))
        store.release(KEY, owner("cyd"), **ENDS)
        assert contend(store, running("dan")) == Claimed(4, 4)
        dan = running("dan")._replace(attempt=4, first_attempt=4)
        if state == "released":
            store.release(KEY, owner("dan"), **ENDS)
        elif state == "taken over":
            lapse(store, KEY)
            assert contend(store, running("eve")) == Claimed(5, 4, dead=dan)
        elif state == "put back":
            store.delete([KEY])
            store.renew([renewal(KEY, dan)], until=NEVER)
        late = answer("ada")._replace(attempt=2)
        assert store.complete(KEY, late, ttl_ms=HOUR) is Completion.REFUSED
        late = answer("dan")._replace(attempt=4)
        assert store.complete(KEY, late, ttl_ms=HOUR) is not Completion.REFUSED

    def test_is_seen(self, store: InspectableStore) -> None:
        """A tombstone is seen as one, without a lease."""
        leave_tombstone(store)
        (info,) = store.inspect([KEY])
        assert info.record == store.read(KEY)
        assert (info.lease_left_ms, info.lease_lapsed) == (None, False)


class TestRenew:
    def test_lease_begins_anew(self, store: InspectableStore) -> None:
        """A renewed claim has its whole lease again, and a lapsed one is ours while nobody came."""
        claim(store, running())
        lapse(store, KEY)
        assert store.renew([renewal(KEY, running())], until=0) == [True]
        reply = contend(store, running("bob"))
        assert isinstance(reply, Busy)
        assert 0 < reply.lease_left_ms <= HOUR < time_left(store, KEY) <= 2 * HOUR

    def test_lost_record_is_put_back(self, store: InspectableStore) -> None:
        """A record that the store lost is put back as it was claimed, for longer than its lease."""
        lost = running()._replace(attempt=3)
        assert store.renew([renewal(KEY, lost)], until=NEVER) == [True]
        assert store.read(KEY) == lost
        assert HOUR < time_left(store, KEY) <= 2 * HOUR

    def test_late_command_revives_nothing(self, store: InspectableStore) -> None:
        """A renewal that is carried out too late puts nothing back."""
        assert store.renew([renewal(KEY, running())], until=store.now() - 1) == [None]
        assert store.read(KEY) is None

    def test_clock(self, store: InspectableStore) -> None:
        """Until when a record may be put back is said in the store's own time."""
        until = store.now() + HOUR
        assert store.renew([renewal(KEY, running())], until=until) == [True]

    def test_completed_is_lost(self, store: InspectableStore) -> None:
        """A renewal never writes in progress over a response."""
        claim(store, running())
        store.complete(KEY, answer(), ttl_ms=HOUR)
        assert store.renew([renewal(KEY, running())], until=NEVER) == [False]
        assert store.read(KEY) == answer()

    def test_anothers_is_lost(self, store: InspectableStore) -> None:
        """A claim that was taken over is told as lost, and the other's is left alone."""
        claim(store, running("bob"))
        before = store.read(KEY)
        assert store.renew([renewal(KEY, running("ada"))], until=NEVER) == [False]
        assert store.read(KEY) == before

    def test_many_at_once(self, store: InspectableStore) -> None:
        """Each of many claims is renewed or told as lost by itself."""
        claim(store, running("ada"), key="IDEMPOTENT_{1}")
        claim(store, running("bob"), key="IDEMPOTENT_{2}")
        renewals = [renewal(f"IDEMPOTENT_{{{number}}}", running("ada")) for number in (1, 2, 3)]
        assert store.renew(renewals, until=NEVER) == [True, False, True]

    def test_offer_survives(self, store: InspectableStore) -> None:
        """A renewal keeps a late owner's response."""
        claim(store, running("bob"))
        store.complete(KEY, answer("ada"), ttl_ms=HOUR)
        store.renew([renewal(KEY, running("bob"))], until=NEVER)
        store.release(KEY, owner("bob"), **ENDS)
        assert store.read(KEY) == answer("ada")

    def test_own_claim_keeps_the_offer(self, store: InspectableStore) -> None:
        """A claim that is sent again keeps a late owner's response."""
        claim(store, running("bob"))
        store.complete(KEY, answer("ada"), ttl_ms=HOUR)
        contend(store, running("bob"))
        store.release(KEY, owner("bob"), **ENDS)
        assert store.read(KEY) == answer("ada")


class TestListen:
    @pytest.mark.parametrize("size", [10, 15_000, 17_000, 1_000_000])
    def test_response_wakes_with_itself(self, store: InspectableStore, size: int) -> None:
        """A completion wakes the waiter with the response, small or large."""
        claim(store, running())
        with store.listen(KEY, 5) as waiter:
            store.complete(KEY, answer(body=b"x" * size), ttl_ms=HOUR)
            assert waiter.wait(5) == answer(body=b"x" * size)

    def test_release_wakes_to_claim(self, store: InspectableStore) -> None:
        """A release wakes the waiter with nothing: it is to claim again."""
        claim(store, running())
        with store.listen(KEY, 5) as waiter:
            store.release(KEY, owner("ada"), **ENDS)
            until(lambda: waiter.notified)
            assert waiter.wait(0) is None

    @pytest.mark.parametrize("step", ["another claims", "the other gives up"])
    def test_late_response_wakes(self, store: InspectableStore, step: str) -> None:
        """When a late owner's response takes the place, whoever waits is told to look."""
        claim(store, running("ada"))
        lapse(store, KEY)
        contend(store, running("bob"))
        store.complete(KEY, answer("ada"), ttl_ms=HOUR)
        with store.listen(KEY, 5) as waiter:
            if step == "another claims":
                lapse(store, KEY)
                contend(store, running("cyd"))
            else:
                store.release(KEY, owner("bob"), **ENDS)
            until(lambda: waiter.notified)

    def test_all_waiters_wake(self, store: InspectableStore) -> None:
        """Every waiter on a key hears its completion."""
        claim(store, running())
        listening = threading.Barrier(17)

        def wait(_: int) -> object:
            with store.listen(KEY, 5) as waiter:
                listening.wait()
                return waiter.wait(5)

        with ThreadPoolExecutor(16) as pool:
            answers = [pool.submit(wait, number) for number in range(16)]
            listening.wait()
            store.complete(KEY, answer(), ttl_ms=HOUR)
            assert [future.result() for future in answers] == [answer()] * 16

    def test_other_keys_are_silent(self, store: InspectableStore) -> None:
        """A waiter hears its own key alone."""
        with store.listen(KEY, 5) as waiter, store.listen("IDEMPOTENT_{other}", 5) as other:
            store.complete("IDEMPOTENT_{other}", answer(), ttl_ms=HOUR)
            assert other.wait(5) == answer()
            assert waiter.wait(0) is None

    def test_listening_again(self, store: InspectableStore) -> None:
        """A key that was left can be listened to again, and hears what comes then."""
        for number in range(20):
            with store.listen(KEY, 5) as waiter:
                store.complete(KEY, answer(body=b"%d" % number), ttl_ms=HOUR)
                assert waiter.wait(5) == answer(body=b"%d" % number)
            store.delete([KEY])


class TestKeys:
    def test_scan_names_what_begins_so(self, store: InspectableStore) -> None:
        """Scanning finds the records of a prefix, taken literally, and no others."""
        for key in ("I*_{1}", "I*_{2}", "IX_{3}"):
            claim(store, running(), key=key)
        assert sorted(set(store.scan("I*_"))) == ["I*_{1}", "I*_{2}"]

    def test_delete_frees_and_wakes(self, store: InspectableStore) -> None:
        """Deleting counts what was there and wakes the waiters."""
        claim(store, running())
        with store.listen(KEY, 5) as waiter:
            assert store.delete([KEY, "IDEMPOTENT_{none}"]) == 1
            until(lambda: waiter.notified)
        assert store.read(KEY) is None

    def test_discard_what_was_seen(self, store: InspectableStore) -> None:
        """Discarding deletes a record that is still the one that was seen, and wakes waiters."""
        claim(store, running())
        (info,) = store.inspect([KEY])
        with store.listen(KEY, 5) as waiter:
            assert store.discard([info]) == 1
            until(lambda: waiter.notified)
        assert store.read(KEY) is None
        assert store.discard([info]) == 0

    def test_discard_leaves_what_came_since(self, store: InspectableStore) -> None:
        """A record that another owner has written since is left alone."""
        store.complete(KEY, answer("ada"), ttl_ms=HOUR)
        (info,) = store.inspect([KEY])
        store.delete([KEY])
        claim(store, running("bob"))
        assert store.discard([info]) == 0
        assert isinstance(store.read(KEY), RunningRecord)

    def test_delete_nothing(self, store: InspectableStore) -> None:
        """Deleting no keys deletes none."""
        assert store.delete([]) == 0

    def test_many_are_deleted(self, store: InspectableStore) -> None:
        """A purge deletes more records than one command should name."""
        for number in range(600):
            store.complete(f"{KEY}{number}", answer(), ttl_ms=HOUR)
        assert store.delete(store.scan(KEY)) == 600
        assert list(store.scan(KEY)) == []

    def test_ping(self, store: InspectableStore) -> None:
        """A living store answers."""
        assert store.ping() is None

    def test_usable_after_close(self, store: InspectableStore) -> None:
        """A closed store opens again at its next use."""
        store.close()
        store.ping()
        with store.listen(KEY, 5) as waiter:
            store.complete(KEY, answer(), ttl_ms=HOUR)
            assert waiter.wait(5) == answer()


class TestInspect:
    def test_in_progress(self, store: InspectableStore) -> None:
        """A claim is seen with its owner, what is left of its lease, and who waits for it."""
        claim(store, running())
        with store.listen(KEY, 5):
            (info,) = store.inspect([KEY])
        assert info.record == running()
        assert info.lease_left_ms is not None
        assert 0 < info.lease_left_ms <= HOUR < info.ttl_ms <= 2 * HOUR
        assert (info.size, info.waiters, info.lease_lapsed) == (len(encode(running())), 1, False)

    def test_lapsed_with_an_offer(self, store: InspectableStore) -> None:
        """A lapsed claim is seen as one, also where a late owner's response waits in it."""
        claim(store, running("ada"))
        lapse(store, KEY)
        contend(store, running("bob"))
        store.complete(KEY, answer("ada", body=b"late" * 1000), ttl_ms=HOUR)
        lapse(store, KEY)
        (info,) = store.inspect([KEY])
        assert isinstance(info.record, RunningRecord)
        assert (info.record.owner, info.record.attempt) == (owner("bob"), 2)
        assert info.lease_lapsed
        assert info.size > 4000

    @pytest.mark.parametrize("size", [0, 100_000])
    def test_completed(self, store: InspectableStore, size: int) -> None:
        """A completed record is seen with its size, however large, and without its body."""
        record = answer(body=bytes(size))
        store.complete(KEY, record, ttl_ms=HOUR)
        (info,) = store.inspect([KEY])
        assert info.record == CompletedSummary(1, 201, 2.5, "POST", "orders")
        assert 0 < info.ttl_ms <= HOUR
        assert (info.size, info.lease_left_ms, info.lease_lapsed) == (
            len(encode(record)),
            None,
            False,
        )

    def test_many(self, store: InspectableStore) -> None:
        """Many are looked at, in batches; those that are gone are left out."""
        for number in range(0, 1200, 2):
            store.complete(f"{KEY}{number}", answer(), ttl_ms=HOUR)
        seen = list(store.inspect(f"{KEY}{number}" for number in range(1200)))
        assert [info.storage_key for info in seen] == [
            f"{KEY}{number}" for number in range(0, 1200, 2)
        ]

    def test_facts(self, store: InspectableStore) -> None:
        """A server tells of itself; memory has nothing to tell."""
        facts = store.facts()
        if facts:
            assert (facts["transport"], facts["save"], facts["role"]) == ("loopback", "", "master")
            assert facts["maxmemory_policy"] == "noeviction"
