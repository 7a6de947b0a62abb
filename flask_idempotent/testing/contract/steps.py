"""The contract of a store: steps of a view that are written and read."""

from __future__ import annotations

from flask_idempotent.stores.base import (
    Step,
    StepResult,
    Store,
)
from flask_idempotent.testing.contract.support import (
    HOUR,
    KEY,
    begin,
    claim,
    complete,
    contend,
    end,
    fingerprint,
    lapse,
    lease_left_ms,
    owner,
    release,
    renewal,
    response,
    running,
    steps_of,
    take_over,
    take_over_from_ada,
)


class StepContract:
    """``Store.write_step`` and ``read_steps``."""

    def test_steps(self, store: Store) -> None:
        """Steps are read as they were written, in order of time."""
        claim(store, running())
        assert store.read_steps(KEY, fingerprint()) == []
        steps = [
            Step("s: \N{BANKNOTE WITH EURO SIGN}", owner("ada"), 1.5, b"\x00\xc1" * 9000),
            Step("e", owner("ada"), 2.5),
            Step("f", owner("ada"), 2.75, b""),
        ]
        for step in reversed(steps):
            assert store.write_step(KEY, running(), step, ttl_ms=2 * HOUR) is StepResult.WRITTEN
        assert store.read_steps(KEY, fingerprint()) == steps

    def test_steps_are_of_one_key(self, store: Store) -> None:
        """A step belongs to its own key."""
        claim(store, running())
        claim(store, running("bob"), storage_key="IDEMPOTENT_{other}")
        end(store, "ada", "reserve")
        assert store.read_steps("IDEMPOTENT_{other}", fingerprint()) == []

    def test_step_that_ends(self, store: Store) -> None:
        """A step that ended replaces its beginning; each is written once, even if sent twice."""
        claim(store, running())
        assert begin(store, "ada", "charge") is begin(store, "ada", "charge") is StepResult.WRITTEN
        assert steps_of(store) == {"charge": "started"}
        assert end(store, "ada", "charge") is end(store, "ada", "charge") is StepResult.WRITTEN
        assert steps_of(store) == {"charge": "ended"}

    def test_begin_that_arrives_again(self, store: Store) -> None:
        """A beginning that arrives again after the step has ended does not delete the result."""
        claim(store, running())
        end(store, "ada", "charge")
        assert begin(store, "ada", "charge") is StepResult.WRITTEN
        assert steps_of(store) == {"charge": "ended"}

    def test_step_of_another_run(self, store: Store) -> None:
        """A step that begins again in a later run is not written: the earlier one is returned."""
        claim(store, running())
        end(store, "ada", "reserve")
        take_over_from_ada(store)
        earlier = Step("reserve", owner("ada"), 3.5, b"result")
        assert begin(store, "bob", "reserve", attempt=2) == earlier
        assert store.read_steps(KEY, fingerprint()) == [earlier]

    def test_step_that_ends_in_a_later_run(self, store: Store) -> None:
        """A step that ends is written, even where another run has written it before."""
        claim(store, running())
        end(store, "ada", "reserve")
        take_over_from_ada(store)
        assert end(store, "bob", "reserve", attempt=2) is StepResult.WRITTEN
        (step,) = store.read_steps(KEY, fingerprint())
        assert step.owner == owner("bob")

    def test_step_of_a_late_owner(self, store: Store) -> None:
        """A run that has lost the key writes no step."""
        take_over(store)
        assert begin(store, "ada", "charge") is end(store, "ada", "reserve") is StepResult.LOST
        assert steps_of(store) == {}

    def test_step_after_the_end(self, store: Store) -> None:
        """A run that has released the key, or completed it, writes no step."""
        take_over(store)
        release(store, "bob")
        assert end(store, "bob", "reserve", attempt=2) is StepResult.LOST
        contend(store, running("cyd"))
        complete(store, response("cyd", attempt=3))
        assert begin(store, "cyd", "charge", attempt=3) is StepResult.LOST
        assert steps_of(store) == {}

    def test_step_without_a_record(self, store: Store) -> None:
        """A step is not written where the store has lost the record; a renewal restores that."""
        assert end(store, "ada", "reserve") is StepResult.GONE
        assert steps_of(store) == {}
        store.renew([renewal(running())], restore_within_ms=HOUR)
        assert end(store, "ada", "reserve") is StepResult.WRITTEN

    def test_step_starts_the_lease_again(self, store: Store) -> None:
        """A step renews the claim, and its grace becomes the record's."""
        claim(store, running())
        lapse(store)
        record = running()._replace(grace_ms=HOUR // 2)
        assert end(store, "ada", "reserve", record=record) is StepResult.WRITTEN
        assert HOUR * 1.4 < lease_left_ms(store) <= HOUR * 1.5
        assert store.read(KEY) == record

    def test_step_without_a_lease(self, store: Store) -> None:
        """Without a time to live the lease ends when it would have, also with another grace."""
        claim(store, running())
        for grace_ms in (HOUR, 3 * HOUR, HOUR // 2):
            record = running()._replace(grace_ms=grace_ms)
            end(store, "ada", "reserve", record=record, ttl_ms=None)
            assert HOUR * 0.9 < lease_left_ms(store) <= HOUR
            assert store.read(KEY) == record

    def test_renewal_writes_the_grace(self, store: Store) -> None:
        """A renewal writes the grace too, because it may come before the reply to a step."""
        claim(store, running())
        record = running()._replace(grace_ms=HOUR // 2)
        assert store.renew([renewal(record)], restore_within_ms=0) == [True]
        assert HOUR * 1.4 < lease_left_ms(store) <= HOUR * 1.5
        assert store.read(KEY) == record
