"""Committing an answer: what the key's answer is when the commit fails."""

from __future__ import annotations

from typing import Any

import pytest

from flask_idempotent.engine.transactions import Answer, Transaction, commit_answer
from flask_idempotent.errors import DatabaseUnavailable
from flask_idempotent.records import CompletedRecord


def answer_of(owner: bytes, ttl_ms: int = 1000) -> Answer:
    return Answer("IDEMPOTENT_{a}", CompletedRecord(owner * 16, b"f" * 16, 1, 201), ttl_ms)


OURS, THEIRS = answer_of(b"o"), answer_of(b"t")


class Scripted(Transaction):
    """A transaction whose commit fails, and whose look-up finds what it is told to."""

    def __init__(self, failure: Exception | None, found: Answer | Exception | None = None) -> None:
        self.failure, self.found, self.calls = failure, found, list[str]()

    def look_up(self, storage_key: str) -> Answer | None:
        self.calls.append("look up")
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def commit(self, answer: Answer | None, *, replaces: bytes | None = None) -> None:
        self.calls.append("commit")
        if self.failure is not None:
            raise self.failure

    def roll_back(self) -> None:
        self.calls.append("roll back")


class TestCommitAnswer:
    def test_committed(self) -> None:
        """Once it is committed, the key's answer is ours, and nothing more is asked."""
        transaction = Scripted(None)
        assert commit_answer(transaction, OURS) is OURS
        assert transaction.calls == ["commit"]

    @pytest.mark.parametrize("found", [OURS, THEIRS, answer_of(b"t", ttl_ms=-5)])
    def test_an_answer_is_there(self, found: Answer) -> None:
        """After a failed commit the key's answer is the one that is there, expired or not."""
        transaction = Scripted(RuntimeError("duplicate key"), found)
        assert commit_answer(transaction, OURS) is found
        assert transaction.calls == ["commit", "roll back", "look up"]

    def test_ours_in_other_words(self) -> None:
        """Where ours was committed and the reply lost, the given object is returned: a database
        rounds the time."""
        stored = OURS._replace(record=OURS.record._replace(time=1.5), ttl_ms=900)
        assert commit_answer(Scripted(RuntimeError("lost"), stored), OURS) is OURS

    @pytest.mark.parametrize("other", [{"status": 400}, {"session": b"sorry"}])
    def test_another_answer_of_the_same_run(self, other: dict[str, Any]) -> None:
        """A commit that seemed to fail may be carried out after the same run has turned the failure
        into another response: then the first one is the key's."""
        stored = OURS._replace(record=OURS.record._replace(**other))
        assert commit_answer(Scripted(RuntimeError("duplicate key"), stored), OURS) is stored

    @pytest.mark.parametrize("found", [None, THEIRS])
    def test_views_own_error(self, found: Answer | None) -> None:
        """The view's own error is raised where no answer is there but the one to be replaced."""
        failure = RuntimeError("deadlock detected")
        with pytest.raises(RuntimeError) as raised:
            commit_answer(Scripted(failure, found), OURS, replaces=THEIRS.record.owner)
        assert raised.value is failure

    def test_not_to_be_known(self) -> None:
        """Where the look-up fails too, it is unknown what was committed."""
        failure = RuntimeError("connection lost")
        transaction = Scripted(failure, OSError("connection refused"))
        with pytest.raises(DatabaseUnavailable, match="connection refused") as raised:
            commit_answer(transaction, OURS)
        assert raised.value.__cause__ is failure

    def test_locked(self) -> None:
        """Where another transaction has the key locked, ours is rolled back."""
        transaction = Scripted(DatabaseUnavailable("locked"))
        with pytest.raises(DatabaseUnavailable, match="locked"):
            commit_answer(transaction, OURS)
        assert transaction.calls == ["commit", "roll back"]

    def test_begin_and_has_committed(self) -> None:
        """A transaction that cannot see the view's own commits says that there were none."""
        transaction = Scripted(None)
        transaction.begin()
        assert transaction.has_committed() is False
