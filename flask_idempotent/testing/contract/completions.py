"""The contract of the end of a run: its response is stored, or its claim is given up."""

from __future__ import annotations

from flask_idempotent.records import ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import Busy, Claimed, Completion, Store
from flask_idempotent.testing.contract.support import (
    HOUR,
    KEY,
    claim,
    complete,
    contend,
    lapse,
    leave_tombstone,
    release,
    renewal,
    response,
    running,
    take_over,
    until,
)


class CompleteContract:
    """``Store.complete``."""

    def test_completion(self, store: Store) -> None:
        """The owner's response becomes the key's."""
        claim(store, running())
        assert complete(store, response()) is Completion.STORED
        assert store.read(KEY) == response()

    def test_completion_sent_twice(self, store: Store) -> None:
        """A completion whose reply was lost succeeds again and changes nothing."""
        claim(store, running())
        complete(store, response())
        assert complete(store, response()) is Completion.STORED
        assert store.read(KEY) == response()

    def test_completion_of_a_lost_record(self, store: Store) -> None:
        """A response is stored even where the record in progress is gone."""
        assert complete(store, response()) is Completion.STORED
        assert store.read(KEY) == response()

    def test_completion_without_a_body(self, store: Store) -> None:
        """A response that is not kept leaves a record without a body."""
        claim(store, running())
        complete(store, response(body=None))
        assert contend(store, running("bob")) == response(body=None)

    def test_completion_by_a_late_owner(self, store: Store) -> None:
        """A late owner's response waits while another runs, whose response is then kept."""
        take_over(store)
        assert complete(store, response("ada", body=b"late")) is Completion.OFFERED
        assert isinstance(contend(store, running("cyd")), Busy)
        assert isinstance(store.read(KEY), RunningRecord)
        assert complete(store, response("bob", attempt=2)) is Completion.STORED
        assert store.read(KEY) == response("bob", attempt=2)

    def test_completion_after_anothers(self, store: Store) -> None:
        """A late owner finds another's response and leaves it."""
        claim(store, running("bob"))
        complete(store, response("bob"))
        assert complete(store, response("ada")) is Completion.REFUSED
        assert store.read(KEY) == response("bob")

    def test_completion_of_another_payload(self, store: Store) -> None:
        """A late owner whose key was lost and reused for another payload offers nothing."""
        claim(store, running("bob", "two"))
        assert complete(store, response("ada", "one")) is Completion.REFUSED
        assert release(store, "bob")
        assert store.read(KEY) is None

    def test_first_offer_is_kept(self, store: Store) -> None:
        """Of two late owners' responses the first is kept."""
        claim(store, running("cyd"))
        complete(store, response("ada", body=b"first"))
        complete(store, response("bob", body=b"second"))
        release(store, "cyd")
        assert store.read(KEY) == response("ada", body=b"first")


class ReleaseContract:
    """``Store.release``."""

    def test_release_frees_the_key(self, store: Store) -> None:
        """A released key is claimed by the next request, whatever its payload."""
        claim(store, running())
        assert release(store, "ada") is True
        assert store.read(KEY) is None
        assert contend(store, running("bob", "two")) == Claimed(1)

    def test_release_sent_twice(self, store: Store) -> None:
        """A release whose reply was lost finds nothing to do."""
        claim(store, running())
        release(store, "ada")
        assert release(store, "ada") is False

    def test_release_of_anothers_claim(self, store: Store) -> None:
        """A claim is released by its owner alone."""
        claim(store, running("bob"))
        assert release(store, "ada") is False
        assert isinstance(store.read(KEY), RunningRecord)

    def test_release_of_a_response(self, store: Store) -> None:
        """Not even the owner releases what is completed."""
        claim(store, running())
        complete(store, response())
        assert release(store, "ada") is False
        assert store.read(KEY) == response()

    def test_release_while_the_owner_may_run(self, store: Store) -> None:
        """A claim that an operator releases leaves a tombstone, even on a first attempt.

        Its owner's renewal does not bring it back, its response is stored, and the next attempt
        has a higher number.
        """
        claim(store, running())
        assert release(store, "ada", owner_may_run=True) is True
        assert store.read(KEY) == running().tombstone()
        assert store.renew([renewal(running())], restore_within_ms=HOUR) == [False]
        assert contend(store, running("bob")) == Claimed(2)
        assert release(store, "bob") is True
        assert complete(store, response("ada")) is Completion.STORED

    def test_release_stores_an_offer(self, store: Store) -> None:
        """When the other run fails, the late owner's response is stored: no third run."""
        take_over(store)
        complete(store, response("ada"))
        assert release(store, "bob") is True
        assert contend(store, running("cyd")) == response("ada")

    def test_release_stores_a_large_offer(self, store: Store) -> None:
        """So is a large response."""
        take_over(store)
        complete(store, response("ada", body=b"x" * 100_000))
        assert release(store, "bob") is True
        assert contend(store, running("cyd")) == response("ada", body=b"x" * 100_000)

    def test_crash_stores_an_offer(self, store: Store) -> None:
        """When the other run's owner dies too, the late owner's response is stored."""
        take_over(store)
        complete(store, response("ada"))
        lapse(store)
        assert contend(store, running("cyd")) == response("ada")
        assert store.read(KEY) == response("ada")


class TombstoneContract:
    """The record that a release leaves where an earlier owner may still run."""

    def test_tombstone_is_left(self, store: Store) -> None:
        """A second attempt that gives up leaves its number and fingerprint."""
        tombstone = leave_tombstone(store)
        assert store.read(KEY) == tombstone

    def test_tombstone_keeps_the_number(self, store: Store) -> None:
        """After a crash and a failed take-over the third run is attempt 3, not 1."""
        leave_tombstone(store)
        assert contend(store, running("cyd"), takeover=False) == Claimed(3, 1)
        assert store.read(KEY) == running("cyd")._replace(attempt=3)
        assert isinstance(contend(store, running("dan")), Busy)

    def test_tombstone_of_each_attempt(self, store: Store) -> None:
        """The number continues however often the key is released."""
        leave_tombstone(store)
        for attempt in range(3, 6):
            assert contend(store, running(f"n{attempt}")) == Claimed(attempt, 1)
            release(store, f"n{attempt}")

    def test_tombstone_binds_no_payload(self, store: Store) -> None:
        """Another payload may have the key; what the first's runs answer is refused then."""
        leave_tombstone(store)
        assert contend(store, running("cyd", "two")) == Claimed(3, 3)
        assert complete(store, response("ada")) is Completion.REFUSED

    def test_tombstone_is_not_released(self, store: Store) -> None:
        """A release whose reply was lost finds its tombstone and nothing to do."""
        leave_tombstone(store)
        assert release(store, "bob") is False
        assert isinstance(store.read(KEY), ReleasedRecord)

    def test_tombstone_is_not_renewed(self, store: Store) -> None:
        """A renewal that finds a tombstone has lost the claim, and restores nothing."""
        tombstone = leave_tombstone(store)
        for name in ("ada", "bob"):
            assert store.renew([renewal(running(name))], restore_within_ms=HOUR) == [False]
        assert store.read(KEY) == tombstone

    def test_tombstone_takes_a_late_response(self, store: Store) -> None:
        """A view that ran to its end after all is not run again: its response is stored."""
        leave_tombstone(store)
        with store.listen(KEY, 5) as waiter:
            assert complete(store, response("ada")) is Completion.STORED
            until(lambda: waiter.notified)
        assert contend(store, running("cyd")) == response("ada")

    def test_tombstone_takes_its_own_owners_response(self, store: Store) -> None:
        """So is the response of the owner that was released."""
        leave_tombstone(store)
        assert complete(store, response("bob", attempt=2)) is Completion.STORED
        assert contend(store, running("cyd")) == response("bob", attempt=2)

    def test_tombstone_refuses_another_payload(self, store: Store) -> None:
        """A response to another payload does not take a tombstone's place."""
        leave_tombstone(store)
        assert complete(store, response("ada", "two")) is Completion.REFUSED
        assert isinstance(store.read(KEY), ReleasedRecord)


class FirstAttemptContract:
    """A key that had another payload in between: responses of its first runs are refused."""

    def test_first_attempt_of_a_claim(self, store: Store) -> None:
        """While the payload's later run is in progress, an earlier run's response is refused."""
        _return_to_the_first_payload(store)
        _assert_earlier_run_is_refused(store)

    def test_first_attempt_of_a_tombstone(self, store: Store) -> None:
        """A tombstone refuses it too."""
        _return_to_the_first_payload(store)
        release(store, "dan")
        _assert_earlier_run_is_refused(store)

    def test_first_attempt_after_a_take_over(self, store: Store) -> None:
        """It is still refused after a take-over."""
        dan = _return_to_the_first_payload(store)
        lapse(store)
        assert contend(store, running("eve")) == Claimed(5, 4, dead=dan)
        _assert_earlier_run_is_refused(store)

    def test_first_attempt_after_a_loss(self, store: Store) -> None:
        """A renewal that restores a lost record restores the first attempt too."""
        dan = running("dan")._replace(attempt=4, first_attempt=4)
        assert store.renew([renewal(dan)], restore_within_ms=HOUR) == [True]
        _assert_earlier_run_is_refused(store)


def _return_to_the_first_payload(store: Store) -> RunningRecord:
    """Let the key go to another payload and come back: dan's claim begins again."""
    leave_tombstone(store)
    contend(store, running("cyd", "two"))
    release(store, "cyd")
    assert contend(store, running("dan")) == Claimed(4, 4)
    return running("dan")._replace(attempt=4, first_attempt=4)


def _assert_earlier_run_is_refused(store: Store) -> None:
    assert complete(store, response("ada", attempt=2)) is Completion.REFUSED
    assert complete(store, response("dan", attempt=4)) is not Completion.REFUSED
