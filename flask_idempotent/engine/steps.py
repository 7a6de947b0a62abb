"""Steps: parts of a run whose results a later run of the key returns and does not repeat."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple, NoReturn

from flask_idempotent import _timing
from flask_idempotent._step_values import decode, encode
from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.renewal import Renewals
from flask_idempotent.engine.reports import Reports
from flask_idempotent.errors import (
    LeaseLost,
    RecordUnreadable,
    StepUnknown,
    StoreError,
    StoreUnavailable,
)
from flask_idempotent.stores.base import Step, StepResult, Store


class Recorded(NamedTuple):
    """What a step returned in an earlier run.

    :param value: the same value.
    """

    value: Any


class Steps:
    """What a run knows of its steps.

    Each thread of the run may have steps of its own.

    :param store: where their results are.
    :param renewals: renews the claim of the run.
    :param reports: logs and signals a lost lease, and a result that the store does not accept.
    :param claim: the claim of the run.
    """

    def __init__(self, store: Store, renewals: Renewals, reports: Reports, claim: Claim) -> None:
        self._store = store
        self._renewals = renewals
        self._reports = reports
        self.claim = claim
        # Not the claim's own lock, which each command takes: a step may need several.
        self._lock = threading.Lock()
        #: The names that this run has used.
        self.names: set[str] = set()
        #: The steps of earlier runs by their names, once they were read.
        self._earlier: dict[str, Step] | None = None
        #: What this run has done: steps that have begun with ``once``, or have ended.
        self._done: dict[str, Step] = {}
        #: Results that the store has not accepted yet, oldest first.
        self._unwritten: list[Step] = []
        #: The step that has not begun although the store may have its mark; else empty.
        self.unstarted = ""

    def begin(self, name: str, *, once: bool) -> Recorded | None:
        """Begin a step, unless an earlier run has its result.

        :param once: whether it must not begin again where it is not known to have ended.
        :returns: the result of an earlier run; None where the step's function is to be called.
        :raises ValueError: when this run has used the name before.
        :raises LeaseLost: when another run has the key, or may have it.
        :raises StepUnknown: when it began in an earlier run and is not known to have ended.
        :raises StoreError: when the store does not answer; the function must not be called.
        :raises RecordUnreadable: when what the store has of it is damaged.
        """
        check_process_of(self.claim)
        with self._lock:
            if name in self.names:
                raise ValueError(_USED_TWICE.format(name))
            earlier = self._read_earlier().get(name)
            self._check_lease()
            if earlier is None and once:
                self._write_results()
                earlier = self._mark(name)
            recorded = None if earlier is None else _recorded(earlier)
            self.names.add(name)
        return recorded

    def end(self, name: str, value: Any) -> None:
        """Record what a step has returned, now or with the next step.

        :raises TypeError: when the value cannot be recorded.
        :raises ValueError: when it is nested too deeply.
        :raises LeaseLost: when another run has the key.
        """
        data = encode(name, value)
        check_process_of(self.claim)
        with self._lock:
            if self.claim.settled:
                raise LeaseLost(_OVER.format(name))
            step = Step(name, self.claim.record.owner, time.time(), data)
            self._done[name] = step
            self._unwritten.append(step)
            try:
                self._write_results()
            except StoreError as error:
                self._reports.step_not_recorded(self.claim, name, error)

    def save(self) -> None:
        """Write what the store has not accepted or has lost, before the claim is released.

        An eviction or somebody's DEL may have taken the steps, the record, or both.

        :raises StoreError: when the store does not accept it now.
        """
        with self._lock:
            for step in self._lost_steps():
                # Where another run has the key, they are of no use any more.
                if self._send(step) is StepResult.GONE and self.restore_record():
                    self._send(step)
            self._unwritten.clear()

    @property
    def has_any(self) -> bool:
        """Whether this run, or an earlier one, has begun a step with ``once`` or ended one."""
        return bool(self._done or self._earlier)

    def restore_record(self) -> bool:
        """Write the record of the run again if the store has lost it.

        :returns: whether the key is this run's.
        :raises StoreError: when the store does not answer.
        """
        claim = self.claim
        with claim.lock:
            (is_ours,) = self._store.renew(
                [claim.renewal()], restore_within_ms=_timing.RESTORE_WITHIN_MS
            )
        return bool(is_ours)

    def _lost_steps(self, besides: str = "") -> list[Step]:
        """The steps that this run knows and the store does not have, oldest first.

        :param besides: the name of a step that is left out.
        """
        claim, owner = self.claim, self.claim.record.owner
        steps = (self._earlier or {}) | self._done
        steps.pop(besides, None)
        if not steps:
            return []
        try:
            stored = self._store.read_steps(claim.storage_key, claim.record.fingerprint)
        except RecordUnreadable:
            return []  # They are damaged, which the next run reports.
        states = {step.name: step.state for step in stored}
        lost = [step for step in steps.values() if states.get(step.name) != step.state]
        # This run writes them, those of earlier runs too.
        return [step._replace(owner=owner) for step in lost]

    def _check_lease(self) -> None:
        claim, now = self.claim, time.monotonic()
        if not claim.held or claim.settled:
            self._lose()
        has_overrun = claim.has_overrun(now)
        if claim.is_due(now) and not has_overrun:
            self._renew()
        if claim.has_lapsed(time.monotonic()):
            if has_overrun:
                self._lose()
            raise StoreUnavailable("it does not say whether the lease of the run goes on")

    def _renew(self) -> None:
        try:
            still_ours = self._renewals.renew_now(self.claim)
        except StoreError as error:
            # The lease may go on for longer than the store is away.
            self._reports.store_failed("renew", error)
            return
        if still_ours is False:
            self._lose()

    def _lose(self) -> NoReturn:
        if not self.claim.settled:
            self.claim.step_refused = True
            self._renewals.mark_lost(self.claim)
        raise LeaseLost(_LOST)

    def _read_earlier(self) -> dict[str, Step]:
        if self._earlier is None:
            claim, steps = self.claim, list[Step]()
            if claim.attempt > 1:
                steps = self._store.read_steps(claim.storage_key, claim.record.fingerprint)
            self._earlier = {step.name: step for step in steps}
        return self._earlier

    def _mark(self, name: str) -> Step | None:
        """Note that a step begins, before its function is called.

        :returns: the step of an earlier run, where there is one.
        """
        with self.claim.lock:
            # Before the command, whose reply may be lost: a renewal must not bring the old time
            # to live together with the new grace.
            self.claim.keep_for_hold()
        self.unstarted = name
        step = Step(name, self.claim.record.owner, time.time())
        earlier = self._write(step)
        # The reply may have come after the lease.
        self._check_lease()
        self.unstarted = ""
        if earlier is None:
            self._done[name] = step
        return earlier

    def _write_results(self) -> None:
        while self._unwritten:
            self._write(self._unwritten[0])
            del self._unwritten[0]

    def _write(self, step: Step) -> Step | None:
        result = self._send(step)
        if result is StepResult.GONE and not self.claim.has_overrun(time.monotonic()):
            self._renew()
            for lost in self._lost_steps(besides=step.name):
                self._send(lost)
            result = self._send(step)
            if result is StepResult.GONE:
                raise StoreUnavailable("it has lost the record of the run")
        if isinstance(result, Step):
            return result
        if result is not StepResult.WRITTEN:
            self._lose()
        return None

    def _send(self, step: Step) -> StepResult | Step:
        claim = self.claim
        with claim.lock:
            sent = time.monotonic()
            ttl_ms = None if claim.has_overrun(sent) else claim.ttl_ms
            result = self._store.write_step(claim.storage_key, claim.record, step, ttl_ms=ttl_ms)
            if result is StepResult.WRITTEN and ttl_ms is not None:
                claim.renewed = sent
        return result


def check_process_of(claim: Claim) -> None:
    """Check that this process has made a claim.

    It comes before any lock: in a forked child there may be no thread left to release it.

    :raises LeaseLost: in a forked child.
    """
    if not claim.is_ours:
        raise LeaseLost(_FORKED)


def _recorded(step: Step) -> Recorded:
    if step.value is None:
        raise StepUnknown(step.name)
    return Recorded(decode(step.value))


_USED_TWICE = (
    "the step {!r} was called before in this run of the view. Give each step a name of its own, "
    "such as 'reserve-1' and 'reserve-2' in a loop; what is to be repeated until it succeeds is "
    "repeated inside of the step's function"
)
_LOST = "another run may have the key, so no step of this run may begin, and none is recorded"
_OVER = "the view has ended, so the step {!r} is not recorded"
_FORKED = "a forked process does not own the claims of its parent, whose steps it must not run"
