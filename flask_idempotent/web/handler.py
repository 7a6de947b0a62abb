"""The handler: where the decorator and the extension meet, and outcomes become HTTP.

It stands where the view runs: behind every ``before_request`` function, so behind authentication,
CSRF protection and rate limits, and inside ``after_request``, compression and session saving.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from flask import Request, has_request_context, request
from werkzeug.exceptions import ClientDisconnected, HTTPException
from werkzeug.local import LocalProxy

from flask_idempotent import problems, signals
from flask_idempotent._http_syntax import is_status
from flask_idempotent._logging import logger
from flask_idempotent._redact import redacted
from flask_idempotent.engine.claims import Claim, ClaimRequest
from flask_idempotent.engine.outcomes import (
    FingerprintMismatch,
    OutcomeUnknown,
    Replay,
    StillRunning,
)
from flask_idempotent.errors import RecordUnreadable, StoreError
from flask_idempotent.http.bodies import Body
from flask_idempotent.http.body_tracking import BodyTakenError, is_tracked
from flask_idempotent.http.fingerprints import fingerprint, read_form
from flask_idempotent.http.keys import check_custom, find_key, part_key, storage_key
from flask_idempotent.http.responses import (
    capture,
    replay,
    should_store,
    status_of,
    varying_by_cookie,
    watch_body,
)
from flask_idempotent.records import CompletedRecord, RunningRecord
from flask_idempotent.web.flask_compat import body_limit, current_context, handle_user_exception
from flask_idempotent.web.problem_pages import prepare_page
from flask_idempotent.web.protection import IDENTIFYING_SETTINGS
from flask_idempotent.web.scopes import scope_of
from flask_idempotent.web.sessions import was_accessed
from flask_idempotent.web.templating import keep_out_of_caches

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask import Flask
    from flask.typing import ResponseReturnValue
    from werkzeug.wrappers import Response

    from flask_idempotent.settings import Settings
    from flask_idempotent.web.state import AppState

Run = Callable[[], "ResponseReturnValue"]

#: Where a request's environment holds its claim; a nested call finds it and claims nothing.
_CLAIM = "flask_idempotent.claim"
#: Where it holds the first call that looked at its key.
_FIRST = "flask_idempotent.first"


class _NoClaim:
    """Stands where nothing is claimed."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<no claim>"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"current_claim has no {name} here, because nothing is claimed: the request carries no "
            "key, or its view is not protected, has answered, or runs without its store. Test for "
            "it first: if current_claim: ..."
        )


_NO_CLAIM = _NoClaim()


def _current_claim() -> Claim | _NoClaim:
    claim = request.environ.get(_CLAIM) if has_request_context() else None
    return claim if isinstance(claim, Claim) and not claim.settled else _NO_CLAIM


#: The claim of the running request: falsy where nothing is claimed, else with ``key``, ``owner``,
#: ``attempt``, ``held`` and ``release()``.
current_claim: Any = LocalProxy(_current_claim)


def handle(
    state: AppState,
    settings: Settings,
    current: Request,
    run: Run,
    part: Callable[..., Any] | None = None,
) -> ResponseReturnValue:
    """Serve a request: run its view, or answer what is known of its key.

    :param settings: the settings of the view.
    :param current: the request.
    :param run: runs the view.
    :param part: the decorated function that is called, where it may be a part of the view; None
        for the view itself.
    :raises Problem: when the request cannot be served.
    """
    if _is_inside(current.environ) or _opens_socket(current):
        return run()
    first: _FirstCall | None = current.environ.get(_FIRST)
    if first is not None and first.finds_the_same_as(settings):
        body = Body(current, body_limit(state.app, current))
        again = _Keyed(state, settings, run, current, body, first.claim_request.key, part)
        return again.serve_again(first)
    if not is_tracked(current):
        # A view that nothing protects has called a decorated function, and may have read before.
        state.calls_inside = True
    body = Body(current, body_limit(state.app, current))
    key = _find_key(state, settings, current, body)
    if key is not None:
        return _Keyed(state, settings, run, current, body, key, part).serve()
    if not settings.requires_key(current.method):
        return _run_without_key(run, current, body)
    where = _IN_HEADER.format(settings.headers[0]) if settings.key is None else ""
    problem = problems.KeyMissing(_MISSING.format(where), base=settings.problem_base)
    raise _rejected(state.app, settings, current, problem)


def _is_inside(environ: WSGIEnvironment) -> bool:
    # A view that was claimed runs, and calls another one.
    if _CLAIM not in environ:
        return False
    claim: Claim | None = environ[_CLAIM]
    return claim is None or not (claim.returned or claim.settled)


def _opens_socket(current: Request) -> bool:
    # A WebSocket has no response that could be replayed. Other values of Upgrade change nothing:
    # some clients offer h2c with each POST.
    return current.method == "GET" and current.url_rule is not None and current.url_rule.websocket


def _run_without_key(run: Run, current: Request, body: Body) -> ResponseReturnValue:
    body.give_back()
    answer = run()
    if body.cut is not None:
        logger.warning(
            "%s ran without a key: its form was not searched to the end, because %s",
            current.endpoint, body.cut,
        )  # fmt: skip
    return answer


def _find_key(state: AppState, settings: Settings, current: Request, body: Body) -> str | None:
    try:
        if settings.key is not None:
            key = body.show(settings.key)
            return None if key is None else check_custom(key, settings)
        return _client_key(state, settings, current, body)
    except ClientDisconnected:
        key = None
        with suppress(problems.KeyInvalid):
            key = find_key(current, settings, ())
        raise _incomplete(state.app, settings, current, key) from None
    except problems.Problem as problem:
        raise _rejected(state.app, settings, current, problem) from None


def _client_key(state: AppState, settings: Settings, current: Request, body: Body) -> str | None:
    finders = (_showing(body, finder) for finder in state.key_finders)
    if current.method != "GET":
        return find_key(current, settings, _form_keys(settings, current, body), finders)
    try:
        return find_key(current, settings, (), finders)
    except problems.KeyInvalid:
        if settings.required:
            raise
        # A client that follows a redirect sends the key that it had for another request.
        return None


def _showing(body: Body, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda _: body.show(function)


def _form_keys(settings: Settings, current: Request, body: Body) -> list[str]:
    if settings.field is None or not body.is_form:
        return []
    if settings.fingerprint is None and any(
        name in current.environ for name in settings.environ_names
    ):
        # The fingerprint will be wanted: to read the form once is enough.
        with suppress(BodyTakenError):
            body.form_digest, keys = read_form(body, settings)
            return keys
    return body.look_for(settings.field)


def _incomplete(
    app: Flask, settings: Settings, current: Request, key: str | None
) -> problems.Problem:
    problem = problems.BodyIncomplete(_INCOMPLETE, key=key, base=settings.problem_base)
    return _rejected(app, settings, current, problem)


def _rejected(
    app: Flask,
    settings: Settings,
    current: Request,
    problem: problems.Problem,
    name: str | None = None,
) -> problems.Problem:
    prepare_page(problem, current, settings)
    logger.info(
        "problem %s: key %s, record %s, endpoint %s, instance %s",
        problem.slug, redacted(problem.key), name or "-", current.endpoint, problem.instance,
    )  # fmt: skip
    signals.send(
        signals.rejected,
        app,
        key=problem.key,
        storage_key=name,
        problem=problem.slug,
        status=problem.code,
        instance=problem.instance,
    )
    return problem


class _FirstCall(NamedTuple):
    """What the first call that looked at a request's key found.

    It stands in the request's environment, so it must not refer to the request: in a cycle, a body
    of any size would stay in memory until the garbage collector comes by.

    :param settings: the settings of that call.
    :param claim_request: what was asked, in the name of the key's own record.
    :param scope: who the key belongs to.
    """

    settings: Settings
    claim_request: ClaimRequest
    scope: str | bytes | None

    def finds_the_same_as(self, settings: Settings) -> bool:
        """Say whether a look with these settings finds the same key, caller and fingerprint."""
        return settings is self.settings or all(
            getattr(settings, option) == getattr(self.settings, option)
            for option in IDENTIFYING_SETTINGS
        )


class _Keyed:
    """One request that carries a key.

    :param state: the library's state in the application.
    :param settings: the settings of the view.
    :param run: runs the view.
    :param current: the request.
    :param body: its body.
    :param key: the client's key.
    :param part: the decorated function that may be a part of the view, if any.
    """

    def __init__(
        self,
        state: AppState,
        settings: Settings,
        run: Run,
        current: Request,
        body: Body,
        key: str,
        part: Callable[..., Any] | None,
    ) -> None:
        self._app = state.app
        self._state = state
        self._settings = settings
        self._run = run
        self._request = current
        self.body = body
        self.key = key
        self._part = part
        self._name: str | None = None
        self._scope: str | bytes | None = None
        self._claim: Claim | None = None

    def serve(self) -> ResponseReturnValue:
        """Run the view, or answer what is known of the key."""
        claim_request = self._claim_request()
        self._request.environ[_FIRST] = _FirstCall(self._settings, claim_request, self._scope)
        return self._serve(self._own(claim_request))

    def serve_again(self, first: _FirstCall) -> ResponseReturnValue:
        """Do the same in a request whose key was looked at before, and whose body may be spent.

        :param first: the call that looked.
        """
        self._scope = first.scope
        return self._serve(self._own(first.claim_request)._replace(settings=self._settings.engine))

    def _own(self, claim_request: ClaimRequest) -> ClaimRequest:
        # A decorated function that is no view, but called by one, has a record of its own: two of
        # them must not get each other's answers, in whichever order they are called.
        part = self._part and self._state.protections.part_name(self._part, self._request)
        if part is not None:
            storage_key = part_key(self._settings.prefix, claim_request.storage_key, part)
            claim_request = claim_request._replace(storage_key=storage_key)
        self._name = claim_request.storage_key
        return claim_request

    def _serve(self, claim_request: ClaimRequest) -> ResponseReturnValue:
        try:
            return self._begin(claim_request)
        except BaseException:
            # A worker's timeout, say, may come at any moment: a claim whose view has not begun is
            # nobody's.
            if self._claim is not None and not self._claim.began:
                self._state.engine.abandon(self._claim)
            raise

    def _begin(self, claim_request: ClaimRequest) -> ResponseReturnValue:
        try:
            outcome = self._state.engine.claim(claim_request)
        except StoreError as error:
            return self._without_store(error)
        except RecordUnreadable as error:
            raise self._unreadable(error) from None
        match outcome:
            case Claim():
                self._claim = outcome
                return self._run_claimed(outcome)
            case Replay():
                return self._replay(outcome)
            case StillRunning():
                retry_after = outcome.retry_after(time.time())
                raise self._problem(
                    problems.RequestInProgress, _IN_PROGRESS, retry_after=retry_after
                )
            case OutcomeUnknown():
                raise self._problem(problems.OutcomeUnknown, _UNKNOWN)
            case FingerprintMismatch() if self._request.method == "GET":
                # The key came along from another request, over a redirect.
                return self._run_unclaimed()
            case FingerprintMismatch():
                raise self._reused()

    def _claim_request(self) -> ClaimRequest:
        settings, current, body = self._settings, self._request, self.body
        host = self._app.url_map.host_matching or self._app.subdomain_matching
        try:
            if settings.fingerprint is not None:
                body.read()
            digest = fingerprint(current, body, settings, host=host)
        except ClientDisconnected:
            raise _incomplete(self._app, settings, current, self.key) from None
        except BodyTakenError:
            logger.error(_TAKEN, current.endpoint)
            raise self._problem(problems.BodyUnavailable, _UNAVAILABLE) from None
        self._scope = self._find_scope()
        if self._scope is None and settings.scope is None:
            self._state.notices.on_anonymous(current)
        namespace = settings.namespace or self._app.name
        name = storage_key(settings.prefix, namespace, self._scope, self.key)
        path = (current.root_path, current.path, current.host if host else None)
        return ClaimRequest(
            name, self.key, digest, settings.engine, current.method, current.endpoint or "", path,
        )  # fmt: skip

    def _find_scope(self) -> str | bytes | None:
        settings = self._settings
        if settings.scope is None:
            return scope_of(self._request, settings)
        return self.body.show(partial(scope_of, settings=settings))

    def _run_claimed(self, claim: Claim) -> Response:
        engine = self._state.engine
        self._request.environ[_CLAIM] = claim
        accessed = was_accessed()
        try:
            self._tell_claimed(claim)
            self.body.give_back()
            claim.began = True
            response = self._respond()
        except BaseException:
            engine.release(claim, "failed")
            raise
        claim.returned = True
        try:
            self._settle(claim, response, uses_session=was_accessed() and not accessed)
        except BaseException:
            # The view has run: its key must neither stay in progress nor be free again.
            engine.complete_later(claim, 500, (), None)
            raise
        return response

    def _settle(self, claim: Claim, response: Response, *, uses_session: bool) -> None:
        engine = self._state.engine
        if claim.given_up:
            engine.release(claim, "by-view")
            return
        if not should_store(response, self._settings):
            engine.release(claim, "not-stored")
            return
        try:
            status, headers = capture(response, self._settings)
        except ValueError as error:
            self._complete_without(claim, response, error)
            return
        if uses_session and "vary" not in self._settings.drop_headers:
            # Flask adds it to the first response later, and knows nothing of it on a replay.
            headers = varying_by_cookie(headers)
        answer = (claim, status, headers)
        watch_body(
            response,
            self._settings.max_body,
            partial(self._complete, *answer),
            partial(engine.complete_later, *answer, None),
        )

    def _complete_without(self, claim: Claim, response: Response, error: ValueError) -> None:
        # The view has run, and its retries can only be told so.
        logger.error(
            "the response of %s is not kept, as it could not be sent again: record %s: %s",
            self._request.endpoint, claim.storage_key, error,
        )  # fmt: skip
        status = status_of(response)
        self._complete(claim, status if is_status(status) else 500, (), None)

    def _complete(
        self,
        claim: Claim,
        status: int | str,
        headers: tuple[tuple[str, str], ...],
        body: bytes | None,
    ) -> None:
        if claim.given_up:
            # What streams the body belongs to the view.
            self._state.engine.release(claim, "by-view")
            return
        complete = partial(self._state.engine.complete, claim)
        try:
            complete(status, headers, body)
        except Exception:
            # The view has run: its key must neither stay in progress nor be free again.
            logger.exception("the response cannot be stored: record %s", claim.storage_key)
            complete(500, (), None)

    def _tell_claimed(self, claim: Claim) -> None:
        if claim.dead is not None:
            self._log_take_over(claim, claim.dead)
        signals.send(
            signals.claimed,
            self._app,
            key=self.key,
            storage_key=claim.storage_key,
            attempt=claim.attempt,
            owner=claim.owner,
            took_over=claim.dead is not None,
        )

    def _log_take_over(self, claim: Claim, dead: RunningRecord) -> None:
        logger.warning(
            "take-over: key %s, record %s, attempt %d, endpoint %s; its owner died: "
            "%s, process %d, which began %.1f s ago",
            redacted(self.key), self._name, claim.attempt, self._request.endpoint,
            dead.host, dead.pid, max(0.0, time.time() - dead.started),
        )  # fmt: skip

    def _respond(self) -> Response:
        try:
            rv: Any = self._run()
        except Exception as error:
            # What the application's error handlers make of it is the view's answer; what they
            # leave unhandled, or raise themselves, rises from here.
            try:
                rv = handle_user_exception(current_context(), error)
            except Exception as unhandled:
                self._state.pass_on(unhandled)
                raise
        if isinstance(rv, HTTPException):
            # Flask would run it as an application, whose answer looks like a stream.
            rv = rv.get_response(self._request.environ)
        # Now, so that a replay of the page asks for it too.
        return keep_out_of_caches(self._request.environ, self._app.make_response(rv))

    def _replay(self, outcome: Replay) -> Response:
        completed = outcome.completed
        if completed.body is None:
            raise self._problem(problems.ResponseNotKept, _NOT_KEPT)
        try:
            response = replay(completed, self._app.response_class, self._settings)
        except RecordUnreadable as error:
            raise self._unreadable(error) from None
        self._tell_replayed(completed, outcome.waited)
        return response

    def _unreadable(self, error: RecordUnreadable) -> problems.Problem:
        logger.error("record %s cannot be read: %s", self._name, error)
        return self._problem(problems.StoredResponseUnreadable, _UNREADABLE)

    def _tell_replayed(self, completed: CompletedRecord, waited: float) -> None:
        # Mostly nobody listens; to ask takes less than to gather what would be told.
        if not (signals.replayed.receivers or logger.isEnabledFor(logging.INFO)):
            return
        age, status = max(0.0, time.time() - completed.time), completed.status_code
        logger.info(
            "replay: key %s, record %s, status %d, stored %.1f s ago, waited %.3f s",
            redacted(self.key), self._name, status, age, waited,
        )  # fmt: skip
        signals.send(
            signals.replayed,
            self._app,
            key=self.key,
            storage_key=self._name,
            status=status,
            waited=waited,
            age=age,
        )

    def _reused(self) -> problems.Problem:
        problem = self._problem(problems.KeyReused, _REUSED)
        assert isinstance(problem, problems.KeyReused)
        # In the anonymous scope the first request may have been anybody's.
        if self._scope is not None:
            problem.fetch_stored = self._fetch_stored
        return problem

    def _fetch_stored(self) -> Response | None:
        assert self._name is not None, "another request has this key"
        try:
            record = self._state.engine.store.read(self._name)
            if not isinstance(record, CompletedRecord) or record.body is None:
                return None
            return replay(record, self._app.response_class, self._settings)
        except (StoreError, RecordUnreadable) as error:
            logger.error("record %s cannot be read: %s", self._name, error)
            return None

    def _without_store(self, error: StoreError) -> ResponseReturnValue:
        unprotected = self._settings.on_store_error == "run"
        if unprotected:
            logger.warning("running without protection, the store failed to claim: %s", error)
        else:
            logger.error("the store failed to claim: %s", error)
        signals.send(signals.store_failed, self._app, operation="claim", error=error)
        if unprotected:
            return self._run_unclaimed()
        raise self._problem(problems.TemporarilyUnavailable, _NO_STORE, retry_after=1) from None

    def _run_unclaimed(self) -> ResponseReturnValue:
        self._request.environ[_CLAIM] = None  # No nested call asks the store again.
        return self._run()

    def _problem(
        self, kind: type[problems.Problem], detail: str, *, retry_after: int | None = None
    ) -> problems.Problem:
        problem = kind(
            detail, key=self.key, base=self._settings.problem_base, retry_after=retry_after
        )
        return _rejected(self._app, self._settings, self._request, problem, self._name)


_MISSING = (
    "This operation needs an idempotency key. Send a new random one, such as a UUID{}, and the "
    "same one with every retry."
)
_IN_HEADER = ", in the header {}"
_IN_PROGRESS = (
    "The first request with this idempotency key is still being processed. Send the same request "
    "again after the time in Retry-After to get its response."
)
_REUSED = (
    "This idempotency key was used for another request. Send a new operation with a new key, or "
    "a retry exactly as it was sent first."
)
_NOT_KEPT = (
    "The first request with this idempotency key ran, but its response was not kept: it was too "
    "large, broke off or cannot be repeated. It will not run again; look up its result another way."
)
_UNKNOWN = (
    "The first request with this idempotency key was interrupted and it is not known how far it "
    "came. It will not run again; look up its result before sending a new key."
)
_INCOMPLETE = "The request's body ended before its announced end. Send the request again."
_UNAVAILABLE = (
    "A part of the request's body was lost on this server before it could be compared, so the "
    "request was not run. Ask the operators of this service."
)
_TAKEN = (
    "bytes of the body of a request to %s were read before Flask had its turn, so its idempotency "
    "key cannot be checked: a WSGI middleware that reads environ['wsgi.input'] must put there what "
    "it read, as in environ['wsgi.input'] = io.BytesIO(data), or be a before_request function"
)
_NO_STORE = (
    "It cannot be checked now whether this request ran before, so it was not run. Send it again "
    "with the same idempotency key after the time in Retry-After."
)
_UNREADABLE = (
    "What is stored for this idempotency key cannot be read, so the request was not run. Look up "
    "its result another way, or ask the operators of this service."
)
