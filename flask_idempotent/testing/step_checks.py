"""Checks: whether a view goes on after the steps that ended before its owner crashed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask_idempotent.testing.checks import FIX_OF_STEPS, of_unclaimed
from flask_idempotent.testing.failures import Failure

if TYPE_CHECKING:
    from flask_idempotent.testing.results import Result
    from flask_idempotent.testing.store import StepCrash
    from flask_idempotent.testing.target import Target


def check_continuation(
    result: Result, first: Result, crash: StepCrash, target: Target
) -> Iterator[Failure]:
    """After a crash at a step, the view went on; or nothing ran, where that is what was asked for.

    :param result: of the request that was sent after the crash.
    :param first: of a request whose owner had called all steps.
    :param crash: what is known of the owner that has crashed.
    """
    on_crash = target.settings.on_crash
    is_unknown = result.signals.get("rejected", {}).get("problem") == "outcome-unknown"
    open_steps = [name for name, state in crash.steps.items() if state == "started"]
    if is_unknown and (open_steps or on_crash != "rerun"):
        return
    if "claimed" not in result.signals:
        if not callable(on_crash):
            yield of_unclaimed(result, target)
        return
    if open_steps and not callable(on_crash):
        yield Failure(
            f"the step {open_steps[0]!r} has once=True, and its owner crashed in it, and it began "
            "again",
            "The record was gone with the lease. Let hold_for= be longer than lease=.",
        )
        return
    missing = crash.steps.keys() - result.steps - set(open_steps)
    if missing:
        yield _of_names(min(missing), result)
    elif result.response.status != first.response.status:
        yield _of_status(result, first, crash)


def _of_names(missing: str, result: Result) -> Failure:
    names = ", ".join(map(repr, sorted(result.steps))) or "none"
    return Failure(
        f"the step {missing!r} had ended when its owner crashed, and the next run did not call "
        f"a step of this name; its steps: {names}",
        "Give a step the same name in every run, so leave out random numbers and the time. A step "
        "that was called in one run must be called in the next: its result says what was done.",
    )


def _of_status(result: Result, first: Result, crash: StepCrash) -> Failure:
    before, now, step = first.response.status, result.response.status, crash.step
    assert step is not None, "its owner has crashed"
    what = (
        f"its owner crashed {crash.description}, and the view, run again, answered {now} instead "
        f"of {before}"
    )
    fix = FIX_OF_STEPS
    if step.value is not None and not crash.carried_out:
        fix = _FIX_OF_FUNCTION.format(step.name)
    return Failure(what, fix, result.summary)


_FIX_OF_FUNCTION = (
    "The function of {0!r} had returned, and was called again because its result was not stored. "
    "Let it find what it did before, as a service does that is given current_claim.key_for({0!r}); "
    "or give the step once=True. crash=False skips this check."
)
