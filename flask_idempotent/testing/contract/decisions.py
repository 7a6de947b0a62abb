"""The contract of a store: requests that decide what follows the death of an owner."""

from __future__ import annotations

from flask_idempotent.records import ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import Busy, Claimed, Completion, ContendResult, Store
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
    until,
)


class DecideContract:
    """``contend`` with ``decides``, and ``release`` with ``holds``."""

    def test_decide(self, store: Store) -> None:
        """Who takes over to decide gets the dead run, whose facts stay in the record."""
        assert decide(store, "bob") == Claimed(2, 1, dead=DEAD)
        assert store.read(KEY) == deciding("bob", 2)

    def test_decide_after_another(self, store: Store) -> None:
        """The next one that is asked gets the run that died, not the run that was asked last."""
        decide(store, "bob")
        lapse(store)
        again = contend(store, asking("cyd"), decides=True)
        assert again == Claimed(3, 1, dead=deciding("bob", 2))
        assert store.read(KEY) == deciding("cyd", 3)

    def test_decide_after_a_lost_reply(self, store: Store) -> None:
        """A command that is sent again gets the facts of the dead run, in our own record."""
        decide(store, "bob")
        again = contend(store, asking("bob"), decides=True)
        assert again == Claimed(2, 1, dead=deciding("bob", 2))

    def test_decide_first(self, store: Store) -> None:
        """Nothing is decided about a first run, a released one, or one that still runs."""
        assert contend(store, running("ada"), decides=True) == Claimed(1)
        assert contend(store, running("ada"), decides=True) == Claimed(1)
        busy = contend(store, asking("bob"), decides=True)
        assert isinstance(busy, Busy)
        release(store, "ada", owner_may_run=True)
        assert contend(store, asking("bob"), decides=True) == Claimed(2)
        assert store.read(KEY) == asking("bob")._replace(attempt=2)

    def test_decide_and_restore(self, store: Store) -> None:
        """A renewal restores the record of who decides, whole, and another cannot run."""
        decide(store, "bob")
        lapse(store)
        record = deciding("bob", 2)
        assert store.renew([renewal(record)], restore_within_ms=HOUR) == [True]
        assert is_waiting(contend(store, asking("cyd"), decides=True))
        assert store.read(KEY) == record

    def test_decide_to_run(self, store: Store) -> None:
        """The record of who decided to run becomes that of the new run; twice is once."""
        decide(store, "bob")
        for _ in range(2):
            assert contend(store, asking("bob"), takeover=False) == Claimed(2, 1)
            assert store.read(KEY) == asking("bob")._replace(attempt=2)
        lapse(store)
        after = contend(store, asking("cyd"), decides=True)
        assert after == Claimed(3, 1, dead=asking("bob")._replace(attempt=2))

    def test_decide_to_run_too_late(self, store: Store) -> None:
        """Nothing runs where the dead owner was only late, and has left its response meanwhile."""
        decide(store, "bob")
        assert complete(store, response("ada")) is Completion.OFFERED
        assert contend(store, asking("bob"), takeover=False) == response("ada")
        assert store.read(KEY) == response("ada")

    def test_decide_with_an_answer(self, store: Store) -> None:
        """The response of who decides completes the key."""
        decide(store, "bob")
        assert complete(store, response("bob", attempt=2)) is Completion.STORED
        assert complete(store, response("ada")) is Completion.REFUSED
        assert store.read(KEY) == response("bob", attempt=2)

    def test_hold(self, store: Store) -> None:
        """A held key stays as it is while the lease lasts; waiters are woken; twice is once."""
        decide(store, "bob")
        with store.listen(KEY, 5) as waiter:
            assert hold(store, "bob") is True
            until(lambda: waiter.notified)
        assert hold(store, "bob") is release(store, "bob") is True
        busy = contend(store, asking("cyd"), decides=True)
        assert isinstance(busy, Busy)
        assert (busy.held, 0 < busy.lease_left_ms <= HOUR) == (True, True)
        assert store.read(KEY) == deciding("bob", 2)._replace(held=True)

    def test_hold_is_not_renewed(self, store: Store) -> None:
        """Neither a renewal nor a late command of its owner prolongs a hold."""
        decide(store, "bob")
        hold(store, "bob")
        assert store.renew([renewal(deciding("bob", 2))], restore_within_ms=HOUR) == [False]
        assert isinstance(contend(store, asking("bob"), decides=True), Busy)

    def test_hold_lets_a_late_owner_answer(self, store: Store) -> None:
        """Nobody runs while a key is held: a late owner's response is stored."""
        decide(store, "bob")
        hold(store, "bob")
        assert complete(store, response("ada", payload="two")) is Completion.REFUSED
        assert complete(store, response("ada")) is Completion.STORED
        assert store.read(KEY) == response("ada")

    def test_hold_with_an_offer(self, store: Store) -> None:
        """Nothing is held where a late owner has left its response: that becomes the key's."""
        decide(store, "bob")
        complete(store, response("ada"))
        assert hold(store, "bob") is True
        assert store.read(KEY) == response("ada")

    def test_give_up(self, store: Store) -> None:
        """Who gives up without a decision frees nothing: the next one is asked at once."""
        decide(store, "bob")
        assert release(store, "bob") is True
        until(lambda: not is_waiting(contend(store, asking("cyd"), takeover=False)))
        again = contend(store, asking("cyd"), decides=True)
        assert again == Claimed(3, 1, dead=deciding("bob", 2))

    def test_operator_frees(self, store: Store) -> None:
        """An operator's release frees a held key, and one about which somebody decides."""
        decide(store, "bob")
        hold(store, "bob")
        assert release(store, "bob", owner_may_run=True) is True
        assert store.read(KEY) == deciding("bob", 2).tombstone()
        assert contend(store, asking("cyd"), decides=True) == Claimed(3)
        lapse(store)
        contend(store, asking("dan"), decides=True)
        assert release(store, "dan", owner_may_run=True) is True
        assert isinstance(store.read(KEY), ReleasedRecord)


#: The run that dies, as attempt 1.
DEAD = running("ada")


def asking(name: str) -> RunningRecord:
    """A request of another process."""
    return running(name)._replace(host="there", pid=8, started=9.5)


def deciding(name: str, attempt: int) -> RunningRecord:
    """What the record is while this owner decides about the run that died."""
    return running(name)._replace(attempt=attempt, died=1)


def decide(store: Store, name: str) -> ContendResult:
    """Let ada's run die, and this owner take over to decide."""
    claim(store, DEAD)
    lapse(store)
    return contend(store, asking(name), decides=True)


def hold(store: Store, name: str) -> bool:
    return store.release(KEY, owner(name), response_ttl_ms=HOUR, tombstone_ttl_ms=HOUR, holds=True)


def is_waiting(result: ContendResult) -> bool:
    return isinstance(result, Busy) and result.lease_left_ms > 0
