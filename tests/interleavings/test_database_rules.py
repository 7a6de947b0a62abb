"""The rules of exactly once can be broken: the search finds a faulty database or engine."""

from __future__ import annotations

from typing import Any

import flask
import pytest

from flask_idempotent.engine import answers, transactions
from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import FingerprintMismatch
from flask_idempotent.engine.transactions import Answer, Transaction, commit_answer
from flask_idempotent.records import CompletedRecord
from flask_idempotent.web import transacted
from flask_idempotent.web.request_state import request_state
from flask_idempotent.web.state import state_of
from tests.interleavings.database import Database, Open, owner_of
from tests.interleavings.database_cases import DATABASE_CASES
from tests.interleavings.faults import Fault, assert_found


class Keyless(Database):
    """Has no unique key."""

    def _insert(self, transaction: Open, answer: Answer, replaces: bytes | None) -> None:
        transaction.answer = answer


class Overwriting(Database):
    """Lets any run replace an answer that has expired."""

    def _insert(self, transaction: Open, answer: Answer, replaces: bytes | None) -> None:
        if self.answer is not None and self.answer.ttl_ms <= 0:
            replaces = owner_of(self.answer)
        super()._insert(transaction, answer, replaces)


class Partial(Database):
    """Commits what the view wrote before the answer is inserted."""

    def _insert(self, transaction: Open, answer: Answer, replaces: bytes | None) -> None:
        self._commit(transaction)
        super()._insert(transaction, answer, replaces)


@pytest.mark.parametrize(
    ("database", "case", "rule"),
    [
        (Keyless, "rows, late owner", "two commits of one key"),
        (Keyless, "rows, lost record", "two commits of one key"),
        (Overwriting, "rows, expired, late owner", "that its run did not see was replaced"),
        (Partial, "rows", "committed without an answer"),
    ],
)
def test_broken_database_is_found(database: type[Database], case: str, rule: str) -> None:
    """A database that breaks its contract breaks a rule in some schedule."""
    assert_found(rule, DATABASE_CASES[case], database=database)


def _run_without_looking(_: Engine, __: Database, claim: Claim) -> Claim:
    return claim


def _refuse_without_looking(*_: object) -> FingerprintMismatch:
    return FingerprintMismatch()


def _by_owner(stored: CompletedRecord, ours: CompletedRecord) -> bool:
    return stored.owner == ours.owner


def _without_looking_after(transaction: Database, answer: Answer, **options: Any) -> Answer:
    transaction.commit(answer, **options)
    return answer


@pytest.mark.parametrize(
    ("fault", "case", "rule"),
    [
        (Fault(answers, "_check_claim", _run_without_looking),
         "rows, lost record", "has the answer"),
        (Fault(answers, "_check_mismatch", _refuse_without_looking),
         "rows, lost record, two payloads", "refused without looking"),
        (Fault(transactions, "_is_same_response", _by_owner),
         "rows, commit fails, handled", "not committed"),
        (Fault(transacted, "commit_answer", _without_looking_after),
         "rows, late owner", "got a fault"),
    ],
)  # fmt: skip
def test_broken_engine_is_found(fault: Fault, case: str, rule: str) -> None:
    """An engine that does not ask the database breaks a rule in some schedule."""
    assert_found(rule, DATABASE_CASES[case], fault=fault)


def test_completing_before_the_commit_is_found() -> None:
    """A run that completes its key in the store before its commit breaks a rule at once."""

    def complete_and_commit(database: Transaction, answer: Answer, **options: Any) -> Answer:
        claim = request_state(flask.request).claim
        assert claim is not None
        engine = state_of(flask.current_app).engine
        engine.complete(claim, answer.record.status, answer.record.headers, b"a body")
        return commit_answer(database, answer, **options)

    fault = Fault(transacted, "commit_answer", complete_and_commit)
    assert_found(
        "the store has an answer that is not committed", DATABASE_CASES["rows"], fault=fault
    )
