"""Answers that the view's own database keeps: they decide what follows before a view runs."""

from __future__ import annotations

from flask_idempotent.engine.claims import Claim, ClaimRequest, claim_without_store
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import (
    FingerprintMismatch,
    Outcome,
    OutcomeUnknown,
    Replay,
)
from flask_idempotent.engine.transactions import Answer, Transaction


def consult(
    engine: Engine, transaction: Transaction, request: ClaimRequest, outcome: Outcome | None
) -> Outcome:
    """Look up the answer of a key before its view runs, and before a request is refused.

    :param outcome: what the store says; None where it failed and the view runs anyway.
    :returns: the outcome by the database, where it has an answer; else the store's.
    :raises DatabaseUnavailable: when the database does not answer.
    """
    if outcome is None:
        outcome = claim_without_store(request)
    if isinstance(outcome, Claim):
        return _check_claim(engine, transaction, outcome)
    if isinstance(outcome, OutcomeUnknown):
        return _check_unknown(engine, transaction, request, outcome)
    if isinstance(outcome, FingerprintMismatch):
        return _check_mismatch(transaction, request)
    return outcome


def _check_claim(
    engine: Engine, transaction: Transaction, claim: Claim
) -> Claim | Replay | FingerprintMismatch:
    answer = transaction.look_up(claim.storage_key)
    if answer is None:
        return claim
    if _is_binding(answer, claim.request):
        return adopt(engine, claim, answer)
    claim.replaces = answer.record.owner
    return claim


def _check_unknown(
    engine: Engine, transaction: Transaction, request: ClaimRequest, outcome: OutcomeUnknown
) -> OutcomeUnknown | Replay | FingerprintMismatch:
    answer = transaction.look_up(request.storage_key)
    if answer is None or not _is_binding(answer, request):
        return outcome
    engine.restore_unclaimed(answer)
    return _outcome_of(answer, request)


def _check_mismatch(
    transaction: Transaction, request: ClaimRequest
) -> FingerprintMismatch | Replay:
    # A store that lost the record lets another request have the key until that has looked up too.
    answer = transaction.look_up(request.storage_key)
    if answer is None or answer.ttl_ms <= 0:
        return FingerprintMismatch()
    return _outcome_of(answer, request)


def _is_binding(answer: Answer, request: ClaimRequest) -> bool:
    """Whether an answer decides about a request: it has not expired and is not corrected."""
    if answer.ttl_ms <= 0:
        return False
    same_request = answer.record.fingerprint == request.fingerprint
    return same_request or not request.may_correct(answer.record)


def adopt(engine: Engine, claim: Claim, answer: Answer) -> Replay | FingerprintMismatch:
    """Give a claim's key the answer that the database has of another run.

    :returns: what follows for the claim's own request.
    """
    engine.restore(claim, answer)
    return _outcome_of(answer, claim.request)


def _outcome_of(answer: Answer, request: ClaimRequest) -> Replay | FingerprintMismatch:
    if answer.record.fingerprint != request.fingerprint:
        return FingerprintMismatch()
    return Replay(answer.record, waited=0.0)
