"""The processes of a simulation: their engines, and the actors that send requests and renew."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import Outcome
from flask_idempotent.errors import StoreUnavailable
from tests.interleavings.actors import Actor, Arriving, Lock, Point, Resting
from tests.interleavings.case import KEY, LEASE, Case, Request
from tests.interleavings.database import Database
from tests.interleavings.database_rules import DatabaseChecker
from tests.interleavings.rules import Checker
from tests.interleavings.step_rules import StepChecker
from tests.interleavings.step_runs import StepFailed, run_steps
from tests.interleavings.stepped_store import SteppedStore
from tests.interleavings.web_requests import Sending, Unavailable, state_for


class Processes:
    """What the actors of a simulation do.

    Each request is an actor, and so is the worker of each process.
    """

    case: Case
    engines: dict[str, Engine]
    actors: list[Actor]
    #: The processes in which several actors share an engine.
    shared: set[str]
    checker: Checker
    step_checker: StepChecker
    database: Database
    database_checker: DatabaseChecker
    #: How many views ran.
    runs = 0
    #: Closed with the simulation.
    stack: ExitStack

    def pause(self, point: Point) -> str:
        """Give control back; returns the step that was chosen."""
        raise NotImplementedError

    @property
    def current(self) -> Actor:
        """The actor that takes a step now."""
        raise NotImplementedError

    def _engine(self, request: Request) -> Engine:
        """Make the engine of a request's process."""
        store: Any = SteppedStore(self, request.process)
        if self.case.transaction:
            state = state_for(request)
            self.stack.enter_context(state.using_store(store))
            engine = state.engine
        else:
            engine = Engine(store, None)
        # The worker is an actor here, not a thread.
        engine.worker.wake = lambda: None  # type: ignore[method-assign]
        keep = engine.worker.keep

        def keep_with_lock(claim: Claim) -> None:
            claim.lock = Lock(self)  # type: ignore[assignment]
            keep(claim)

        engine.worker.keep = keep_with_lock  # type: ignore[method-assign]
        return engine

    def _add(self, name: str, process: str, work: Callable[..., None], *arguments: object) -> None:
        actor = Actor(self, name, process, lambda: work(*arguments))
        self.actors.append(actor)
        actor.switch()

    def _request(self, number: int, request: Request) -> None:
        if request.process in self.shared:
            self.pause(Arriving())
        for _ in range(request.tries):
            try:
                self._serve(number, request)
            except (StoreUnavailable, Unavailable) as error:
                self.checker.failed(number, error)
                continue
            return

    def _serve(self, number: int, request: Request) -> None:
        if self.case.transaction:
            Sending(self, number, request).send()
            return
        engine = self.engines[request.process]
        outcome = engine.claim(request.claim_request)
        has_decided = False
        if isinstance(outcome, Claim) and outcome.is_to_decide:
            self.checker.asked(number, outcome)
            has_decided = request.decides == "answer"
            outcome = self._decide(number, request, outcome)
        if isinstance(outcome, Claim) and not (outcome.settled or has_decided):
            self.checker.runs(number, request, outcome)
            outcome = self._run(number, request, outcome)
        self.checker.answered(number, request, outcome)

    def _run(self, number: int, request: Request, claim: Claim) -> Outcome:
        engine = self.engines[request.process]
        try:
            outcome = run_steps(self, engine, request, claim)
        except StepFailed:
            engine.release(claim, "failed")
            return claim
        if outcome is not None:
            return outcome
        if request.fails:
            engine.release(claim, "failed")
            return claim
        self.step_checker.answers(claim)
        complete = engine.complete_later if request.unread else engine.complete
        complete(claim, request.status, (), f"{request.payload} by {number}".encode())
        return claim

    def _decide(self, number: int, request: Request, claim: Claim) -> Outcome:
        engine = self.engines[request.process]
        try:
            if request.steps:
                engine.store.read_steps(KEY, claim.record.fingerprint)
            if request.decides == "hold":
                return engine.hold(claim)
            if request.decides == "answer":
                engine.complete(claim, 200, (), f"{request.payload} by {number}".encode())
                return claim
            return engine.begin(claim)
        except StoreUnavailable:
            engine.abandon(claim)
            raise

    def _work(self, process: str) -> None:
        worker = self.engines[process].worker
        actor = self.current
        while True:
            self.pause(Resting())
            try:
                if actor.rounds:
                    actor.rounds -= 1
                    for claim in worker.renewals:
                        claim.renewed -= LEASE / 2
                    worker.renewals.renew_due()
                worker.pending.run()
            except StoreUnavailable:
                continue
