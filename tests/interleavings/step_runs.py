"""Runs of views with steps, as the web layer carries them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.following import follow
from flask_idempotent.engine.outcomes import Outcome, OutcomeUnknown
from flask_idempotent.errors import LeaseLost, StepUnknown, StoreUnavailable
from tests.interleavings.actors import Lock
from tests.interleavings.case import Request, is_once

if TYPE_CHECKING:
    from tests.interleavings.simulation import Simulation


class StepFailed(Exception):
    """The function of a step raises an exception."""


def run_steps(
    simulation: Simulation, engine: Engine, request: Request, claim: Claim
) -> Outcome | None:
    """Take the steps of a request's view.

    :returns: what follows where an error of a step leaves the view; None where it goes on.
    :raises StepFailed: when the function of one does.
    :raises StoreUnavailable: when one cannot begin; the claim is released.
    """
    try:
        for name in request.steps:
            _run_step(simulation, engine, request, claim, name)
    except LeaseLost:
        return follow(engine, claim)
    except StepUnknown:
        engine.release(claim, "failed")
        return OutcomeUnknown(None)
    except StoreUnavailable:
        engine.release(claim, "failed")
        raise
    return None


def _run_step(
    simulation: Simulation, engine: Engine, request: Request, claim: Claim, name: str
) -> None:
    steps = engine.steps_of(claim)
    if not isinstance(steps._lock, Lock):
        steps._lock = Lock(simulation)  # type: ignore[assignment]
    if steps.begin(name, once=is_once(name)) is None:
        simulation.step_checker.called(name, claim)
        if name == request.fails_in:
            raise StepFailed
        steps.end(name, name)
