"""Transacted runs: what a view writes into its own database is committed together with its answer.

The answer is what the first request got, below 400 or an error that is kept. It is committed before
the store has it, so whatever the store forgets, no other run of the key can commit again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask_idempotent._logging import logger
from flask_idempotent.engine.answers import adopt, consult
from flask_idempotent.engine.transactions import Answer, Transaction, commit_answer
from flask_idempotent.errors import DatabaseUnavailable, RecordUnreadable, SettingsError
from flask_idempotent.http.responses import body_in_memory
from flask_idempotent.web.answering import (
    commit_unknown,
    database_unavailable,
    response_unreadable,
)
from flask_idempotent.web.request_state import request_state
from flask_idempotent.web.running import (
    KeptParts,
    handled,
    kept_parts,
    make_response,
    start_run,
    store_response,
    why_not_kept,
)
from flask_idempotent.web.sessions import was_accessed

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue
    from werkzeug.wrappers import Response

    from flask_idempotent.engine.claims import Claim, ClaimRequest
    from flask_idempotent.engine.outcomes import FingerprintMismatch, Outcome, Replay
    from flask_idempotent.web.protected_request import ProtectedRequest


def consult_database(
    current: ProtectedRequest, request: ClaimRequest, outcome: Outcome | None
) -> Outcome:
    """Look up the answer of a key in the view's own database.

    :param outcome: what the store says; None where it failed and the view runs anyway.
    :returns: the outcome by the database, where it has an answer; else the store's.
    :raises Problem: when the database does not say it.
    """
    try:
        return consult(current.state.engine, _transaction_of(current), request, outcome)
    except DatabaseUnavailable as error:
        raise database_unavailable(current, error) from None
    except RecordUnreadable as error:
        raise response_unreadable(current, error) from None


def run_transacted(
    current: ProtectedRequest, claim: Claim
) -> Response | Replay | FingerprintMismatch:
    """Run the view of a claimed request in its transaction.

    :returns: its response; or what follows where another run has committed an answer first.
    """
    engine, run = current.state.engine, _Run(current, claim)
    try:
        start_run(current, claim)
        run.respond()
    except BaseException:
        run.discard()
        engine.release(claim, "failed")
        raise
    claim.view_returned = True
    try:
        return run.finish()
    except BaseException:
        # The next request gets the answer from the database.
        engine.abandon(claim)
        raise


def run_unclaimed(current: ProtectedRequest) -> ResponseReturnValue:
    """Run a view that claims nothing, for a request without a key, in its transaction."""
    notes = request_state(current.request)
    if notes.in_transaction:
        # The view has called a decorated function, and commits what that writes.
        return current.run_view()
    transaction = _transaction_of(current)
    notes.in_transaction = True
    try:
        transaction.begin()
        response = make_response(current, current.run_view())
        _report_own_commit(current, transaction)
        if response.status_code < 400:
            transaction.commit(None)
        else:
            transaction.roll_back()
    except BaseException:
        _discard(transaction)
        raise
    finally:
        notes.in_transaction = False
    return response


class _Run:
    """One run of a claimed request's view, and its transaction.

    :param current: the request.
    :param claim: its claim.
    """

    def __init__(self, current: ProtectedRequest, claim: Claim) -> None:
        self._current = current
        self._claim = claim
        self._transaction = _transaction_of(current)
        self._session_accessed_before = was_accessed()
        #: The view's response, or its error handler's.
        self._response: Response
        #: What is kept of it; None where it is not kept, for this reason.
        self._parts: KeptParts | None = None
        self._why_not_kept: str | None = None
        #: The answer that the key has, where another run has committed it first.
        self._others: Answer | None = None

    def respond(self) -> None:
        """Run the view, and commit what it wrote with its response, or roll back.

        :raises Problem: when the database does not say what it has committed.
        :raises Exception: what the application's error handlers leave unhandled.
        """
        current, transaction = self._current, self._transaction
        transaction.begin()
        try:
            value = current.run_view()
        except Exception as error:
            self._answer_error(error)
            return
        self._keep(make_response(current, value))
        _report_own_commit(current, transaction)
        if self._response.status_code >= 400 or self._claim.released_by_view:
            transaction.roll_back()
            self._commit_alone()
            return
        try:
            self._commit()
        except DatabaseUnavailable as error:
            raise commit_unknown(current, error) from None
        except Exception as error:
            self._answer_error(error)

    def _answer_error(self, error: Exception) -> None:
        """Let the application's error handlers answer, after nothing of the view is left."""
        _report_own_commit(self._current, self._transaction)
        self._transaction.roll_back()
        value: Any = handled(self._current, error)
        self._transaction.roll_back()
        self._keep(make_response(self._current, value))
        self._commit_alone()

    def _keep(self, response: Response) -> None:
        """Find out what is kept of a response."""
        self._response, self._parts = response, None
        self._why_not_kept = why_not_kept(self._current, self._claim, response)
        if self._why_not_kept is None:
            uses_session = was_accessed() and not self._session_accessed_before
            self._parts = kept_parts(self._current, response, uses_session=uses_session)

    def _commit_alone(self) -> None:
        """Commit the answer without rows, where it is kept."""
        if self._parts is None:
            return
        try:
            self._commit()
        except DatabaseUnavailable as error:
            raise commit_unknown(self._current, error) from None

    def _commit(self) -> None:
        """Commit what the view wrote, with its answer where that is kept."""
        if self._parts is None:
            self._transaction.commit(None)
            return
        claim, (status, headers, keeps_body) = self._claim, self._parts
        max_body = self._current.settings.max_body
        body = body_in_memory(self._response, max_body) if keeps_body else None
        record = claim.completed(status, headers, body)
        answer = Answer(claim.storage_key, record, claim.request.settings.expire_ms)
        stored = commit_answer(self._transaction, answer, replaces=claim.replaces)
        if stored.record.owner != record.owner:
            self._others = stored

    def discard(self) -> None:
        """Roll back, after an error that goes on rising."""
        _discard(self._transaction)

    def finish(self) -> Response | Replay | FingerprintMismatch:
        """Complete the claim with what was committed, or release it.

        :returns: the response; or what follows where another run has committed first.
        """
        engine = self._current.state.engine
        if self._others is not None:
            self._response.close()
            return adopt(engine, self._claim, self._others)
        if self._parts is not None:
            store_response(self._current, self._claim, self._response, self._parts)
        else:
            engine.release(self._claim, self._why_not_kept or "not-stored")
        return self._response


def _transaction_of(current: ProtectedRequest) -> Transaction:
    if request_state(current.request).in_transaction:
        raise SettingsError(_NESTED.format(current.request.endpoint))
    transaction = current.settings.transaction
    assert transaction is not None, "the settings have one"
    return transaction


def _report_own_commit(current: ProtectedRequest, transaction: Transaction) -> None:
    if transaction.has_committed():
        logger.error(_COMMITTED, current.request.endpoint)


def _discard(transaction: Transaction) -> None:
    try:
        transaction.roll_back()
    except Exception as error:
        # The error that led here goes on rising.
        logger.error("the view's transaction could not be rolled back: %s", error)


_NESTED = (
    "the view of {!r} called a decorated function that has an idempotency key of its own and a "
    "transaction, while the view's own transaction is open. The two can only be committed together:"
    " remove the key of the function, or give it transaction=None"
)
_COMMITTED = (
    "%s commits by itself, although it has transaction=: a crash between this commit and that of "
    "its answer makes it run again. Remove the commit, or write what must be committed earlier in "
    "a session of its own"
)
