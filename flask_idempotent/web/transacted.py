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
    release_failed,
    start_run,
    store_response,
    why_not_kept,
)

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
    engine = current.state.engine
    run = _Run(current, claim)
    try:
        start_run(current, claim)
        response = run.respond()
    except BaseException as error:
        run.discard()
        release_failed(current, claim, error)
        raise
    claim.view_returned = True
    try:
        return run.finish(response)
    except BaseException:
        # The next request gets the answer from the database.
        engine.abandon(claim)
        raise


def begin_decision(current: ProtectedRequest) -> None:
    """Prepare for a function that decides what follows a crash."""
    _transaction_of(current).begin()


def discard_decision(current: ProtectedRequest) -> None:
    """Discard what such a function has written, and end what it has begun by reading."""
    _discard(_transaction_of(current))


def commit_decision(
    current: ProtectedRequest, claim: Claim, response: Response
) -> Response | Replay | FingerprintMismatch:
    """Commit the response of such a function with what it has written, and complete the claim.

    :returns: the response; or what follows where the run that died has committed after all.
    :raises Problem: when the database does not say what it has committed.
    """
    run = _Run(current, claim)
    run.commit_decided(response)
    return run.finish(response)


def run_unclaimed(current: ProtectedRequest) -> ResponseReturnValue:
    """Run a view that claims nothing, for a request without a key, in its transaction."""
    notes = request_state(current.request)
    if notes.in_transaction or _is_called_by_protected_view(current):
        # What this function writes belongs to the transaction of the view, as it does with a key.
        return current.run_view()
    transaction = _transaction_of(current)
    notes.in_transaction = True
    try:
        transaction.begin()
        response = make_response(current, _call_view(current, transaction))
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
        #: Why the response is not kept, a reason of the signal ``released``; None where it is.
        self._why_not_kept: str | None = None
        #: What is kept of the response, besides its body.
        self._parts = KeptParts(500, ())
        #: The answer that the key has, where another run has committed it first.
        self._others: Answer | None = None

    def respond(self) -> Response:
        """Run the view, and commit what it wrote with its response, or roll back.

        :raises Problem: when the database does not say what it has committed.
        :raises Exception: what the application's error handlers leave unhandled.
        """
        self._transaction.begin()
        try:
            value = _call_view(self._current, self._transaction)
        except Exception as error:
            return self._answer_error(error)
        response = make_response(self._current, value)
        if response.status_code < 400 and not self._claim.released_by_view:
            return self._commit_rows(response)
        self._transaction.roll_back()
        return self._commit_alone(response)

    def commit_decided(self, response: Response) -> None:
        """Commit a response that the view has not given, with what its function has written.

        :raises Problem: when it is not known whether it was committed.
        :raises Exception: what else the database raises.
        """
        try:
            if response.status_code >= 400:
                self._transaction.roll_back()
            self._commit(response)
        except Exception as error:
            self._drop(response, error)
            raise

    def discard(self) -> None:
        """Roll back, after an error that goes on rising."""
        _discard(self._transaction)

    def finish(self, response: Response) -> Response | Replay | FingerprintMismatch:
        """Complete the claim with what was committed, or release it.

        :returns: the response; or what follows where another run has committed first.
        """
        current, claim, engine = self._current, self._claim, self._current.state.engine
        if self._others is not None:
            response.close()
            return adopt(engine, claim, self._others)
        if self._why_not_kept is not None:
            engine.release(claim, self._why_not_kept)
        else:
            store_response(current, claim, response, self._parts)
        return response

    def _commit_rows(self, response: Response) -> Response:
        """Commit what the view wrote, with its response where that is kept."""
        try:
            if self._keeps(response):
                self._commit(response)
            else:
                self._transaction.commit(None)
        except Exception as error:
            self._drop(response, error)
            return self._answer_error(error)
        return response

    def _answer_error(self, error: Exception) -> Response:
        """Let the application's error handlers answer, when nothing of the view is left."""
        self._transaction.roll_back()
        value: Any = handled(self._current, error)
        # What the handlers wrote and have not committed.
        self._transaction.roll_back()
        return self._commit_alone(make_response(self._current, value))

    def _commit_alone(self, response: Response) -> Response:
        """Commit a response that is kept, without rows."""
        try:
            if self._keeps(response):
                self._commit(response)
        except Exception as error:
            self._drop(response, error)
            raise
        return response

    def _drop(self, response: Response, error: Exception) -> None:
        """Close a response that goes nowhere, because its commit failed.

        :raises Problem: when it is not known whether it was committed.
        """
        response.close()
        if isinstance(error, DatabaseUnavailable):
            raise commit_unknown(self._current, error) from None

    def _keeps(self, response: Response) -> bool:
        self._why_not_kept = why_not_kept(self._current, self._claim, response)
        return self._why_not_kept is None

    def _commit(self, response: Response) -> None:
        current, claim = self._current, self._claim
        self._parts = kept_parts(current, response)
        status, headers, keeps_body, session = self._parts
        body = body_in_memory(response, current.settings.max_body) if keeps_body else None
        record = claim.completed(status, headers, body, session)
        answer = Answer(claim.storage_key, record, claim.request.settings.expire_ms)
        stored = commit_answer(self._transaction, answer, replaces=claim.replaces)
        if stored is not answer:
            self._others = stored


def _is_called_by_protected_view(current: ProtectedRequest) -> bool:
    protections, request = current.state.protections, current.request
    if current.part is None or protections.part_name(current.part, request) is None:
        return False
    protection = protections.of_request(request)
    return protection is not None and protection.claims


def _transaction_of(current: ProtectedRequest) -> Transaction:
    if request_state(current.request).in_transaction:
        raise SettingsError(_NESTED.format(current.request.endpoint))
    transaction = current.settings.transaction
    assert transaction is not None, "the settings have one"
    return transaction


def _call_view(current: ProtectedRequest, transaction: Transaction) -> Any:
    try:
        return current.run_view()
    finally:
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
