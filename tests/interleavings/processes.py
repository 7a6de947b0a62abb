"""The processes of a simulation: their engines, and the actors that send requests and renew."""

from __future__ import annotations

from collections.abc import Callable

from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.errors import StoreUnavailable
from tests.interleavings.actors import Actor, Arriving, Lock, Point, Resting
from tests.interleavings.case import LEASE, Request
from tests.interleavings.rules import Checker
from tests.interleavings.stepped_store import SteppedStore


class Processes:
    """What the actors of a simulation do.

    Each request is an actor, and so is the worker of each process.
    """

    engines: dict[str, Engine]
    actors: list[Actor]
    #: The processes in which several actors share an engine.
    shared: set[str]
    checker: Checker

    def pause(self, point: Point) -> str:
        """Give control back; returns the step that was chosen."""
        raise NotImplementedError

    @property
    def current(self) -> Actor:
        """The actor that takes a step now."""
        raise NotImplementedError

    def _engine(self, process: str) -> Engine:
        engine = Engine(SteppedStore(self, process), None)  # type: ignore[arg-type]
        # The worker is an actor here, not a thread.
        engine.worker.wake = lambda: None  # type: ignore[method-assign]
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
                outcome = self.engines[request.process].claim(request.claim_request)
            except StoreUnavailable as error:
                self.checker.failed(number, error)
                continue
            if isinstance(outcome, Claim):
                self._view(number, request, outcome)
            self.checker.answered(number, request, outcome)
            return

    def _view(self, number: int, request: Request, claim: Claim) -> None:
        claim.lock = Lock(self)  # type: ignore[assignment]
        self.checker.runs(number, request, claim)
        engine = self.engines[request.process]
        if request.fails:
            engine.release(claim, "failed")
            return
        complete = engine.complete_later if request.unread else engine.complete
        complete(claim, request.status, (), f"{request.payload} by {number}".encode())

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
