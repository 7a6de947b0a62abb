"""The contract of a store: how long the steps of a view stay.

They outlive runs that fail or die, until a response is stored or another request gets the key.
"""

from __future__ import annotations

from collections.abc import Callable

from flask_idempotent.stores.base import Claimed, Completion, Renewal, Step, StepResult, Store
from flask_idempotent.testing.contract.support import (
    HOUR,
    KEY,
    begin,
    claim,
    complete,
    complete_with_steps,
    contend,
    end,
    fingerprint,
    lapse,
    owner,
    release,
    renewal,
    response,
    running,
    steps_of,
    take_over_from_ada,
    until,
)


class StepsStayContract:
    """Steps stay until a response is stored, or another request gets the key."""

    def test_steps_of_a_failed_run(self, store: Store) -> None:
        """A release on the first attempt leaves a tombstone where there are steps."""
        claim(store, running())
        end(store, "ada", "reserve")
        assert release(store, "ada", has_steps=True) is True
        assert store.read(KEY) == running().tombstone()
        assert steps_of(store) == {"reserve": "ended"}
        assert contend(store, running("bob")) == Claimed(2)
        assert steps_of(store) == {"reserve": "ended"}

    def test_release_without_steps(self, store: Store) -> None:
        """A release without steps leaves nothing, even where there might have been some."""
        claim(store, running())
        assert release(store, "ada", has_steps=True) is True
        assert store.read(KEY) is None

    def test_unstarted_step(self, store: Store) -> None:
        """A step that never ran, although it may be there as one that began, does not count."""
        claim(store, running())
        begin(store, "ada", "charge")
        assert release(store, "ada", has_steps=True, unstarted="charge") is True
        assert store.read(KEY) is None
        assert steps_of(store) == {}

    def test_unstarted_step_beside_others(self, store: Store) -> None:
        """Only the step that never ran is deleted, and not one of this name that has ended."""
        claim(store, running())
        for name in ("charge", "mail"):
            begin(store, "ada", name)
        end(store, "ada", "reserve")
        release(store, "ada", has_steps=True, unstarted="charge")
        assert steps_of(store) == {"mail": "started", "reserve": "ended"}

    def test_unstarted_step_that_ended(self, store: Store) -> None:
        """The result of an earlier run stays, whatever a later one did not start."""
        claim(store, running())
        end(store, "ada", "reserve")
        take_over_from_ada(store)
        release(store, "bob", has_steps=True, unstarted="reserve")
        assert steps_of(store) == {"reserve": "ended"}

    def test_steps_of_a_dead_run(self, store: Store) -> None:
        """A request that takes over has the steps of the run that died, and adds to them."""
        claim(store, running())
        end(store, "ada", "reserve")
        take_over_from_ada(store)
        assert end(store, "bob", "charge", attempt=2) is StepResult.WRITTEN
        assert steps_of(store) == {"reserve": "ended", "charge": "ended"}

    def test_completion_deletes_steps(self, store: Store) -> None:
        """A response that is stored ends the steps; so it does when it is sent again."""
        claim(store, running())
        end(store, "ada", "reserve")
        assert complete_with_steps(store, response()) is Completion.STORED
        assert steps_of(store) == {}
        assert complete_with_steps(store, response()) is Completion.STORED

    def test_late_completion_deletes_steps(self, store: Store) -> None:
        """A late response that is stored deletes the steps; an offer or a refusal does not."""
        claim(store, running())
        end(store, "ada", "reserve")
        take_over_from_ada(store)
        assert complete_with_steps(store, response("eve", "two")) is Completion.REFUSED
        assert complete_with_steps(store, response("ada")) is Completion.OFFERED
        assert steps_of(store) == {"reserve": "ended"}
        release(store, "bob", has_steps=True)
        assert store.read(KEY) == response("ada")
        assert steps_of(store) == {}

    def test_completion_deletes_the_steps_of_later_runs(self, store: Store) -> None:
        """The response of a run without steps ends those of a later run, unknown to it."""
        claim(store, running())
        take_over_from_ada(store)
        end(store, "bob", "reserve", attempt=2)
        release(store, "bob", has_steps=True)
        assert complete(store, response("ada")) is Completion.STORED
        assert store.read(KEY) == response("ada")
        assert steps_of(store) == {}

    def test_offer_of_a_dead_run_deletes_steps(self, store: Store) -> None:
        """An offer that becomes the key's response ends the steps."""
        claim(store, running())
        end(store, "ada", "reserve")
        take_over_from_ada(store)
        begin(store, "bob", "charge", attempt=2)
        complete_with_steps(store, response("ada"))
        lapse(store)
        assert contend(store, running("cyd")) == response("ada")
        assert steps_of(store) == {}

    def test_steps_of_another_request(self, store: Store) -> None:
        """A request with another payload never gets the steps, and those after it do not either."""
        claim(store, running())
        end(store, "ada", "reserve")
        release(store, "ada", has_steps=True)
        assert contend(store, running("bob", "two")) == Claimed(2, 2)
        assert steps_of(store) == steps_of(store, "two") == {}
        end(store, "bob", "reserve", payload="two", attempt=2)
        assert steps_of(store) == {}
        release(store, "bob", has_steps=True)
        assert contend(store, running("cyd")) == Claimed(3, 3)
        assert steps_of(store) == {}


class StepsExpireContract:
    """Steps are kept at least as long as the record, by every method that prolongs it."""

    def test_renewal_prolongs_steps(self, store: Store) -> None:
        """A renewal keeps them."""

        def renew(key: str) -> bool:
            renewals = [renewal(BRIEF, key, has_steps=True)]
            return store.renew(renewals, restore_within_ms=-1) == [True]

        _assert_prolongs(store, renew)

    def test_later_step_prolongs_steps(self, store: Store) -> None:
        """A later step keeps those before it."""

        def write(key: str) -> bool:
            step = Step("mail", BRIEF.owner, 5.5)
            return store.write_step(key, BRIEF, step, ttl_ms=HOUR) is StepResult.WRITTEN

        _assert_prolongs(store, write)

    def test_claim_again_prolongs_steps(self, store: Store) -> None:
        """The claim of an owner that lost a reply keeps them."""

        def claim_again(key: str) -> bool:
            return store.contend(key, running(), ttl_ms=HOUR, takeover=True) == Claimed(3)

        _assert_prolongs(store, claim_again)

    def test_tombstone_prolongs_steps(self, store: Store) -> None:
        """A tombstone keeps them."""
        _assert_prolongs(store, lambda key: _release(store, key, HOUR))

    def test_next_attempt_prolongs_steps(self, store: Store) -> None:
        """The attempt after a brief tombstone keeps them."""

        def retry(key: str) -> bool:
            _release(store, key, 1)
            return store.contend(key, running("bob"), ttl_ms=HOUR, takeover=True) == Claimed(4)

        _assert_prolongs(store, retry)

    def test_steps_prolong_a_tombstone(self, store: Store) -> None:
        """A tombstone is kept as long as its steps."""
        claim(store, running())
        end(store, "ada", "reserve")
        assert _release(store, KEY, 1)
        _let_pass(store, 1)
        assert store.read(KEY) == running().tombstone()
        assert steps_of(store) == {"reserve": "ended"}


#: A claim whose record ends with its lease.
BRIEF = running()._replace(attempt=3, grace_ms=0)


def _release(store: Store, key: str, tombstone_ttl_ms: int) -> bool:
    return store.release(
        key, owner("ada"), response_ttl_ms=1, tombstone_ttl_ms=tombstone_ttl_ms, has_steps=True
    )


def _assert_prolongs(store: Store, act: Callable[[str], bool]) -> None:
    """Something that prolongs a record prolongs its steps.

    :param act: prolongs the record of a key; returns False where it was gone.
    """
    for ttl_ms in (16, 64, 256, 1024, 4096):
        key = f"IDEMPOTENT_{{steps of {ttl_ms} ms}}"
        store.renew([Renewal(key, BRIEF, ttl_ms)], restore_within_ms=HOUR)
        store.write_step(key, BRIEF, Step("reserve", BRIEF.owner, 4.5, b""), ttl_ms=ttl_ms)
        # A machine with much to do may be too slow for a brief time.
        if act(key):
            break
    else:
        raise AssertionError("it does not prolong the record")
    _let_pass(store, ttl_ms)
    assert "reserve" in {step.name for step in store.read_steps(key, fingerprint())}


def _let_pass(store: Store, ttl_ms: int) -> None:
    """Let the store's time pass."""
    store.claim("IDEMPOTENT_{time}", running("eve"), ttl_ms=ttl_ms)
    until(lambda: store.read("IDEMPOTENT_{time}") is None)
