"""The contract of a store: steps that began and are not known to have ended."""

from __future__ import annotations

from flask_idempotent.records import ReleasedRecord
from flask_idempotent.stores.base import Busy, Claimed, Completion, Store
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.testing.contract.decisions import asking, deciding, hold
from flask_idempotent.testing.contract.support import (
    HOUR,
    KEY,
    begin,
    claim,
    complete_with_steps,
    contend,
    end,
    fingerprint,
    lapse,
    release,
    resolve,
    response,
    running,
    steps_of,
    until,
)


class OpenStepContract:
    """``Store.contend`` and ``release`` where a step is open."""

    def test_open_step_of_a_dead_run(self, store: Store) -> None:
        """Nobody runs a view after a dead run with an open step: the key is held."""
        _die_in_a_step(store)
        for takeover in (True, False):
            _assert_held(contend(store, running("bob"), takeover=takeover))
        assert store.read(KEY) == running()
        assert steps_of(store) == STEPS

    def test_open_step_of_a_run_that_lives(self, store: Store) -> None:
        """An open step does not hold the key while the lease runs: the run may be in that step."""
        claim(store, running())
        begin(store, "ada", "charge")
        for decides in (False, True):
            busy = contend(store, running("bob"), decides=decides)
            assert isinstance(busy, Busy)
            assert (busy.held, busy.lease_left_ms > 0) == (False, True)

    def test_open_step_of_a_failed_run(self, store: Store) -> None:
        """Nobody runs a view after a run that was given up in a step: the key is held."""
        _fail_in_a_step(store)
        for takeover in (True, False):
            _assert_held(contend(store, running("bob"), takeover=takeover))
        assert store.read(KEY) == running().tombstone()
        assert steps_of(store) == STEPS

    def test_open_step_and_another_request(self, store: Store) -> None:
        """A request with another payload gets the old one's fingerprint, and nothing is lost."""
        _fail_in_a_step(store)
        for decides in (False, True):
            _assert_held(contend(store, running("bob", "two"), decides=decides))
        assert steps_of(store) == STEPS

    def test_decide_about_a_dead_run(self, store: Store) -> None:
        """A request that decides takes over from a run that died in a step, and has its steps."""
        _die_in_a_step(store)
        assert contend(store, asking("bob"), decides=True) == Claimed(2, 1, dead=running())
        assert store.read(KEY) == deciding("bob", 2)
        assert steps_of(store) == STEPS

    def test_decide_about_a_failed_run(self, store: Store) -> None:
        """A request that decides takes over from a run that was given up, and keeps its facts."""
        _fail_in_a_step(store)
        dead = running()._replace(grace_ms=0)
        assert contend(store, asking("bob"), decides=True) == Claimed(2, 1, dead=dead)
        assert store.read(KEY) == deciding("bob", 2)
        assert steps_of(store) == STEPS

    def test_decide_after_another_about_an_open_step(self, store: Store) -> None:
        """The next request that is asked gets that run too; no other request gets the key."""
        _fail_in_a_step(store)
        contend(store, asking("bob"), decides=True)
        assert release(store, "bob", has_steps=True) is True
        until(lambda: isinstance(contend(store, asking("cyd"), decides=True), Claimed))
        assert store.read(KEY) == deciding("cyd", 3)
        lapse(store)
        _assert_held(contend(store, running("dan")))

    def test_decide_to_run_after_an_open_step(self, store: Store) -> None:
        """A view that begins after a decision has the results, and no open step; twice is once."""
        _die_in_a_step(store)
        contend(store, asking("bob"), decides=True)
        for _ in range(2):
            assert contend(store, asking("bob"), takeover=False) == Claimed(2, 1)
            assert steps_of(store) == {"reserve": "ended"}
        assert store.read(KEY) == asking("bob")._replace(attempt=2)
        lapse(store)
        assert contend(store, running("cyd")) == Claimed(
            3, 1, dead=asking("bob")._replace(attempt=2)
        )

    def test_hold_with_an_open_step(self, store: Store) -> None:
        """A held key keeps its steps, and the next one that is asked gets them."""
        _die_in_a_step(store)
        contend(store, asking("bob"), decides=True)
        assert hold(store, "bob") is True
        assert steps_of(store) == STEPS

    def test_decide_with_an_answer_about_an_open_step(self, store: Store) -> None:
        """The answer of a request that decides deletes the steps."""
        _fail_in_a_step(store)
        contend(store, asking("bob"), decides=True)
        assert complete_with_steps(store, response("bob", attempt=2)) is Completion.STORED
        assert steps_of(store) == {}

    def test_late_owner_answers_after_an_open_step(self, store: Store) -> None:
        """The run that is in doubt answers after all: its response is stored."""
        _fail_in_a_step(store)
        assert complete_with_steps(store, response("ada")) is Completion.STORED
        assert steps_of(store) == {}
        assert contend(store, running("bob")) == response("ada")

    def test_operator_frees_an_open_step(self, store: Store) -> None:
        """An operator's release deletes what is open, and keeps the results and a tombstone."""
        _die_in_a_step(store)
        assert release(store, "ada", owner_may_run=True, has_steps=True) is True
        assert store.read(KEY) == running().tombstone()
        assert steps_of(store) == {"reserve": "ended"}
        assert contend(store, running("bob")) == Claimed(2)

    def test_operator_frees_an_open_step_of_a_failed_run(self, store: Store) -> None:
        """An operator may also release a run that was given up; other releases change nothing."""
        _fail_in_a_step(store)
        assert release(store, "ada", has_steps=True, unstarted="charge") is False
        assert release(store, "bob", owner_may_run=True, has_steps=True) is False
        assert steps_of(store) == STEPS
        with store.listen(KEY, 5) as waiter:
            assert release(store, "ada", owner_may_run=True, has_steps=True) is True
            until(lambda: waiter.notified)
        assert steps_of(store) == {"reserve": "ended"}
        assert release(store, "ada", owner_may_run=True, has_steps=True) is False
        assert isinstance(store.read(KEY), ReleasedRecord)
        assert contend(store, running("bob")) == Claimed(2)


class OperatedStepContract:
    """What operators see of steps, and do with them."""

    def test_inspect_steps(self, store: InspectableStore) -> None:
        """The names and states of steps are seen, and nothing of them is a key of its own."""
        claim(store, running())
        end(store, "ada", "reserve")
        begin(store, "ada", "charge")
        (info,) = store.inspect(store.scan("IDEMPOTENT_"))
        assert (info.storage_key, info.steps) == (KEY, STEPS)

    def test_inspect_without_a_lease(self, store: InspectableStore) -> None:
        """A record whose grace a step has written lives that much longer."""
        claim(store, running())
        record = running()._replace(grace_ms=3 * HOUR)
        begin(store, "ada", "charge", record=record, ttl_ms=None)
        (info,) = store.inspect([KEY])
        assert 3.9 * HOUR < info.ttl_ms <= 4 * HOUR

    def test_resolve_a_dead_run(self, store: InspectableStore) -> None:
        """An operator's answer for a dead run deletes its steps."""
        _die_in_a_step(store)
        assert resolve(store, "ada") is True
        assert store.read(KEY) == response("operator")
        assert steps_of(store) == {}

    def test_resolve_a_failed_run(self, store: InspectableStore) -> None:
        """A run that was given up in a step is answered in the same way, and kept as long."""
        _fail_in_a_step(store)
        assert resolve(store, "bob") is False
        assert resolve(store, "ada", ttl_ms=1) is True
        (info,) = store.inspect([KEY])
        assert info.ttl_ms > HOUR / 2
        assert store.read(KEY) == response("operator")
        assert steps_of(store) == {}

    def test_resolve_without_an_open_step(self, store: InspectableStore) -> None:
        """A released key without an open step is not answered: the next request runs."""
        claim(store, running())
        end(store, "ada", "reserve")
        release(store, "ada", has_steps=True)
        assert resolve(store, "ada", even_running=True) is False
        assert steps_of(store) == {"reserve": "ended"}

    def test_delete_steps(self, store: InspectableStore) -> None:
        """A record is deleted with its steps: a later run finds none."""
        _fail_in_a_step(store)
        assert store.delete([KEY]) == 1
        assert claim(store, running("bob")) == Claimed(1)
        assert steps_of(store) == {}

    def test_discard_steps(self, store: InspectableStore) -> None:
        """A record that has not changed is discarded with its steps; the steps of another stay."""
        _fail_in_a_step(store)
        infos = list(store.inspect([KEY]))
        contend(store, asking("bob"), decides=True)
        assert store.discard(infos) == 0
        assert steps_of(store) == STEPS
        assert store.discard(list(store.inspect([KEY]))) == 1
        assert claim(store, running("bob")) == Claimed(1)
        assert steps_of(store) == {}


#: The steps of the run that is in doubt.
STEPS = {"reserve": "ended", "charge": "started"}


def _fail_in_a_step(store: Store) -> None:
    """Let ada's run be given up in the step "charge"."""
    claim(store, running())
    end(store, "ada", "reserve")
    begin(store, "ada", "charge")
    assert release(store, "ada", has_steps=True) is True


def _die_in_a_step(store: Store) -> None:
    """Let ada's run die in the step "charge"."""
    claim(store, running())
    end(store, "ada", "reserve")
    begin(store, "ada", "charge")
    lapse(store)


def _assert_held(result: object) -> None:
    """A contender learns of ada's run, and that nobody runs the view any more."""
    assert isinstance(result, Busy)
    assert (result.fingerprint, result.started) == (fingerprint(), running().started)
    assert (result.held, result.lease_left_ms <= 0) == (True, True)
