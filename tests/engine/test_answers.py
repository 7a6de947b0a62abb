"""Answers that the view's own database keeps, and what they make of a request's outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import pytest

from flask_idempotent.engine.answers import adopt, consult
from flask_idempotent.engine.claims import Claim, ClaimRequest
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import (
    FingerprintMismatch,
    OutcomeUnknown,
    Replay,
    StillRunning,
)
from flask_idempotent.engine.transactions import Answer, Transaction
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.records import CompletedRecord, RunningRecord
from tests.stores.harness import lapse
from tests.support.engines import KEY, claimed, finish, request
from tests.support.faulty_store import FaultyStore, fail
from tests.support.polling import until


@dataclass
class Answering(Transaction):
    """A transaction whose database has this answer."""

    answer: Answer | None = None

    def look_up(self, storage_key: str) -> Answer | None:
        assert storage_key == KEY
        return self.answer

    def commit(self, answer: Answer | None, *, replaces: bytes | None = None) -> NoReturn:
        raise AssertionError("it is only asked")

    def roll_back(self) -> NoReturn:
        raise AssertionError("it is only asked")


def answer_to(
    to: ClaimRequest, ttl_ms: int = 40_000, *, status: int = 201, attempt: int = 1
) -> Answer:
    """The answer of an earlier run."""
    operation = to.operation() if status == 422 else b""
    record = CompletedRecord(
        b"o" * 16, to.fingerprint, attempt, status, (), b"ordered", 1.0, operation=operation
    )
    return Answer(KEY, record, ttl_ms)


class TestClaim:
    def test_no_answer(self, engine: Engine) -> None:
        """Without an answer the claim stands, and there is nothing to replace."""
        claim = claimed(engine)
        assert consult(engine, Answering(), request(), claim) is claim
        assert claim.replaces is None

    def test_answer(self, real_engine: Engine) -> None:
        """An answer to the same request is replayed, and the store has it, on each store."""
        claim = claimed(real_engine)
        answer = answer_to(request())
        outcome = consult(real_engine, Answering(answer), request(), claim)
        assert outcome == Replay(answer.record, 0.0)
        assert claim.settled
        replay = real_engine.claim(request())
        assert isinstance(replay, Replay)
        assert replay.completed == answer.record._replace(owner=claim.record.owner)

    def test_time_and_attempt(self, engine: Engine, faulty: FaultyStore) -> None:
        """The store keeps it for the rest of its time, and goes on counting from its attempt."""
        consult(engine, Answering(answer_to(request(), attempt=7)), request(), claimed(engine))
        (info,) = faulty.inspect([KEY])
        assert info.ttl_ms == 40_000
        assert isinstance(stored := faulty.read(KEY), CompletedRecord)
        assert stored.attempt == 7

    def test_answer_to_another_request(self, engine: Engine, faulty: FaultyStore) -> None:
        """An answer to another payload is a mismatch, and the key is that payload's again."""
        answer = answer_to(request("two"))
        outcome = consult(engine, Answering(answer), request(), claimed(engine))
        assert isinstance(outcome, FingerprintMismatch)
        assert isinstance(engine.claim(request()), FingerprintMismatch)
        assert isinstance(engine.claim(request("two")), Replay)

    def test_expired(self, engine: Engine) -> None:
        """An answer that has expired may be replaced, whatever it answers."""
        for payload in ("one", "two"):
            claim = claimed(engine)
            answer = answer_to(request(payload), ttl_ms=0)
            assert consult(engine, Answering(answer), request(), claim) is claim
            assert claim.replaces == answer.record.owner
            engine.release(claim, "failed")

    def test_c7_corrected(self, engine: Engine) -> None:
        """C7: a refusal of another payload may be replaced; of the same one, it is replayed."""
        refusal = Answering(answer_to(request("two"), status=422))
        claim = claimed(engine)
        assert consult(engine, refusal, request(), claim) is claim
        assert claim.replaces == b"o" * 16
        engine.release(claim, "failed")
        claim = claimed(engine, payload="two")
        assert isinstance(consult(engine, refusal, request("two"), claim), Replay)

    def test_other_operation(self, engine: Engine) -> None:
        """F5: another operation corrects nothing."""
        answer = answer_to(request("two", path="/carts"), status=422)
        outcome = consult(engine, Answering(answer), request(), claimed(engine))
        assert isinstance(outcome, FingerprintMismatch)

    def test_store_fails(self, engine: Engine, faulty: FaultyStore) -> None:
        """An answer that the store does not take now is stored later."""
        claim = claimed(engine)
        faulty.before["complete"] = [fail(StoreUnavailable("down"))]
        assert isinstance(
            consult(engine, Answering(answer_to(request())), request(), claim), Replay
        )
        assert isinstance(engine.claim(request()), Replay)

    def test_that_was_lost(self, real_engine: Engine) -> None:
        """Where the key has another's response by now, that one stands."""
        claim = claimed(real_engine)
        lapse(real_engine.store, KEY)
        finish(real_engine, claimed(real_engine), b"another's")
        assert isinstance(adopt(real_engine, claim, answer_to(request())), Replay)
        assert not claim.held
        replay = real_engine.claim(request())
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"another's"

    def test_that_has_expired(self, real_engine: Engine) -> None:
        """An answer that has expired when the commit met it is replayed, and the store frees the
        key at once."""
        claim = claimed(real_engine)
        assert isinstance(adopt(real_engine, claim, answer_to(request(), ttl_ms=-5)), Replay)
        assert not real_engine.worker.pending
        until(lambda: isinstance(real_engine.claim(request(timeout=0)), Claim))


class TestUnknown:
    """The owner died, and the settings hold its key."""

    def dead_run(self, engine: Engine) -> Claim:
        claim = claimed(engine, takeover=False)
        engine.worker.renewals.remove(claim)
        lapse(engine.store, KEY)
        assert isinstance(engine.claim(request(takeover=False)), OutcomeUnknown)
        return claim

    def test_answer_of_the_dead_run(self, real_engine: Engine) -> None:
        """Its answer is replayed, and stored as its own, on each store."""
        dead = self.dead_run(real_engine)
        answer = answer_to(request())
        answer = answer._replace(record=answer.record._replace(owner=dead.record.owner))
        outcome = consult(real_engine, Answering(answer), request(), OutcomeUnknown())
        assert outcome == Replay(answer.record, 0.0)
        replay = real_engine.claim(request(takeover=False))
        assert isinstance(replay, Replay)
        assert replay.completed == answer.record

    def test_answer_of_another_run(self, real_engine: Engine) -> None:
        """That of another run is replayed too, even of one without the store; it waits in the
        record for the next one that may take over."""
        self.dead_run(real_engine)
        answer = answer_to(request(), attempt=0)
        outcome = consult(real_engine, Answering(answer), request(), OutcomeUnknown())
        assert isinstance(outcome, Replay)
        assert isinstance(real_engine.store.read(KEY), RunningRecord)
        replay = real_engine.claim(request(takeover=True))
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"ordered"

    @pytest.mark.parametrize(
        "answer",
        [None, answer_to(request(), ttl_ms=-1), answer_to(request("two"), status=422)],
        ids=["none", "expired", "to be corrected"],
    )
    def test_no_answer(self, engine: Engine, answer: Answer | None) -> None:
        """An answer that decides nothing leaves the key held."""
        outcome = consult(engine, Answering(answer), request(), OutcomeUnknown())
        assert isinstance(outcome, OutcomeUnknown)


class TestMismatch:
    """Another request has the key in the store, perhaps only until it looks the answer up."""

    def test_its_own_answer(self, engine: Engine) -> None:
        """A request whose answer the database has gets it, not a refusal."""
        answer = answer_to(request())
        outcome = consult(engine, Answering(answer), request(), FingerprintMismatch())
        assert outcome == Replay(answer.record, 0.0)

    @pytest.mark.parametrize(
        "answer",
        [None, answer_to(request(), ttl_ms=-1), answer_to(request("two"))],
        ids=["none", "expired", "another's"],
    )
    def test_no_answer(self, engine: Engine, answer: Answer | None) -> None:
        """Otherwise it is refused."""
        outcome = consult(engine, Answering(answer), request(), FingerprintMismatch())
        assert isinstance(outcome, FingerprintMismatch)


class TestOtherOutcomes:
    @pytest.mark.parametrize(
        "outcome", [StillRunning(1.0), Replay(answer_to(request()).record, 0.0)]
    )
    def test_are_left_alone(self, engine: Engine, outcome: StillRunning | Replay) -> None:
        """Where the store has an outcome of its own the database is not asked."""
        transaction = Answering()
        transaction.look_up = fail(AssertionError())  # type: ignore[assignment, method-assign]
        assert consult(engine, transaction, request(), outcome) is outcome


class TestWithoutTheStore:
    """The store has failed, and the view runs anyway."""

    def test_claim(self, engine: Engine, faulty: FaultyStore) -> None:
        """The run has a claim of attempt 0, and nothing about it is sent to the store."""
        claim = consult(engine, Answering(), request(), None)
        assert isinstance(claim, Claim)
        assert (claim.attempt, claim.held, claim.is_in_store) == (0, True, False)
        finish(engine, claim)
        assert claim.settled
        assert faulty.calls == []

    @pytest.mark.parametrize("end", ["release", "abandon", "later"])
    def test_other_ends(self, engine: Engine, faulty: FaultyStore, end: str) -> None:
        """The same however it ends."""
        claim = consult(engine, Answering(), request(), None)
        assert isinstance(claim, Claim)
        if end == "release":
            engine.release(claim, "failed")
        elif end == "abandon":
            engine.abandon(claim)
        else:
            engine.complete_later(claim, 500, (), None)
        assert claim.settled is (end != "later")
        assert faulty.calls == []
        assert not engine.worker.pending

    def test_answer(self, engine: Engine, faulty: FaultyStore) -> None:
        """An answer is replayed."""
        answer = answer_to(request())
        outcome = consult(engine, Answering(answer), request(), None)
        assert outcome == Replay(answer.record, 0.0)
        assert faulty.calls == []
