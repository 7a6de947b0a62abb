"""The processes of a simulation: their engines, and the actors that send requests and renew."""

from __future__ import annotations

from collections.abc import Callable

from flask_idempotent.engine.answers import adopt, consult
from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import FingerprintMismatch, Outcome, Replay
from flask_idempotent.engine.transactions import Answer, commit_answer
from flask_idempotent.errors import DatabaseUnavailable, StoreUnavailable
from flask_idempotent.records import CompletedRecord
from tests.interleavings.actors import Actor, Arriving, Lock, Point, Resting
from tests.interleavings.case import LEASE, LIFETIME, Case, Request
from tests.interleavings.database import ConnectionLost, Database, UniqueViolation
from tests.interleavings.database_rules import DatabaseChecker
from tests.interleavings.rules import Checker
from tests.interleavings.stepped_store import SteppedStore


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
    database: Database
    database_checker: DatabaseChecker
    #: How many views ran.
    runs = 0

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
            except (
                StoreUnavailable,
                DatabaseUnavailable,
                ConnectionLost,
                UniqueViolation,
            ) as error:
                self.checker.failed(number, error)
                continue
            return

    def _serve(self, number: int, request: Request) -> None:
        engine = self.engines[request.process]
        if self.case.transaction:
            self._serve_in_transaction(engine, number, request)
            return
        outcome = engine.claim(request.claim_request)
        if isinstance(outcome, Claim):
            self.checker.runs(number, request, outcome)
            if request.fails:
                engine.release(outcome, "failed")
            else:
                complete = engine.complete_later if request.unread else engine.complete
                complete(outcome, request.status, (), f"{request.payload} by {number}".encode())
        self.checker.answered(number, request, outcome)

    def _serve_in_transaction(self, engine: Engine, number: int, request: Request) -> None:
        outcome = self._claim_or_look_up(engine, request)
        if isinstance(outcome, Claim):
            self.checker.runs(number, request, outcome)
            self.database_checker.runs(request)
            response = self._run_in_transaction(engine, outcome, number, request)
            if response is None:
                return
            self.database_checker.answered(request, response)
            if isinstance(response, CompletedRecord):
                return
            outcome = response
        else:
            self.database_checker.answered(request, outcome)
        self.checker.answered(number, request, outcome)

    def _claim_or_look_up(self, engine: Engine, request: Request) -> Outcome:
        claim_request, outcome = request.claim_request, None
        try:
            outcome = engine.claim(claim_request)
        except StoreUnavailable:
            if not request.runs_anyway:
                raise
        try:
            return consult(engine, self.database, claim_request, outcome)
        except DatabaseUnavailable:
            if isinstance(outcome, Claim):
                engine.abandon(outcome)
            raise

    def _run_in_transaction(
        self, engine: Engine, claim: Claim, number: int, request: Request
    ) -> CompletedRecord | Replay | FingerprintMismatch | None:
        """Run a view, and return what its client gets; None for an error that is not kept."""
        self.runs += 1
        run = f"{request.payload} by {number}, run {self.runs}"
        self.database.begin()
        self.database.write(run)
        if request.fails or request.status >= 400:
            self.database.roll_back()
        if request.fails:
            engine.release(claim, "failed")
            return None
        try:
            return self._commit_or_handle(engine, claim, request, run)
        except (ConnectionLost, DatabaseUnavailable, UniqueViolation):
            engine.release(claim, "failed")
            raise

    def _commit_or_handle(
        self, engine: Engine, claim: Claim, request: Request, run: str
    ) -> CompletedRecord | Replay | FingerprintMismatch:
        try:
            return self._commit(engine, claim, request.status, run, request.unread)
        except ConnectionLost:
            if not request.error_status:
                raise
            return self._commit(engine, claim, request.error_status, f"{run}, handled")

    def _commit(
        self, engine: Engine, claim: Claim, status: int, run: str, unread: bool = False
    ) -> CompletedRecord | Replay | FingerprintMismatch:
        response = (claim, status, (("Run", run),))
        body = run.encode()
        # A stream's body is not known yet when its rows are committed.
        record = claim.completed(*response[1:], None if unread else body)
        answer = Answer(claim.storage_key, record, LIFETIME)
        stored = commit_answer(self.database, answer, replaces=claim.replaces)
        if stored is not answer:
            return adopt(engine, claim, stored)
        complete = engine.complete_later if unread else engine.complete
        complete(*response, body)
        return record

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
