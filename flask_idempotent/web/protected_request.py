"""A protected request: finds its key, its caller and its fingerprint."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import ClientDisconnected

from flask_idempotent import problems
from flask_idempotent._logging import logger
from flask_idempotent.engine.claims import ClaimRequest
from flask_idempotent.http.fingerprints import digest_form, fingerprint
from flask_idempotent.http.keys import check_custom, find_key, part_key, storage_key
from flask_idempotent.http.tracked_input import BytesMissingError
from flask_idempotent.web.answering import body_incomplete, body_unavailable, reject
from flask_idempotent.web.scopes import scope_of

if TYPE_CHECKING:
    from flask import Flask, Request
    from flask.typing import ResponseReturnValue

    from flask_idempotent.http.bodies import Body
    from flask_idempotent.settings import Settings
    from flask_idempotent.web.request_state import FirstCall
    from flask_idempotent.web.sessions import SessionUse
    from flask_idempotent.web.state import AppState

RunView = Callable[[], "ResponseReturnValue"]


@dataclass(slots=True)
class ProtectedRequest:
    """A request of a protected view, on its way from its key to its response.

    :param state: the library's state in the application.
    :param settings: the settings of the view.
    :param request: the request.
    :param body: its body.
    :param run_view: runs the view.
    :param part: the decorated function that is called, where it may be a part of the view; None
        for the view itself.
    """

    state: AppState
    settings: Settings
    request: Request
    body: Body
    run_view: RunView
    part: Callable[..., Any] | None = None
    #: The client's own key, once it was found.
    key: str | None = None
    #: The caller that the key belongs to; None for the anonymous scope.
    scope: str | bytes | None = None
    #: The name of the record, once it is known.
    storage_key: str | None = None
    #: What its view does with the session, once the view is to run under a claim.
    session_use: SessionUse | None = None

    @property
    def app(self) -> Flask:
        """The application."""
        return self.state.app


def find_client_key(current: ProtectedRequest) -> str | None:
    """Find the client's key; None where the request has none.

    :raises Problem: when the key or the body cannot be used.
    """
    settings, request, body = current.settings, current.request, current.body
    try:
        if settings.key is None:
            return _key_in_usual_places(current)
        key = body.call(settings.key)
        return None if key is None else check_custom(key, settings)
    except ClientDisconnected:
        with suppress(problems.KeyInvalid):
            current.key = find_key(request, settings, ())
        raise body_incomplete(current) from None
    except problems.Problem as problem:
        if settings.key is not None:
            # That it finds no key in the body may be because the body is cut off.
            body.check_size()
        raise reject(current, problem) from None


def _key_in_usual_places(current: ProtectedRequest) -> str | None:
    settings, request, body = current.settings, current.request, current.body
    finders = (partial(_call_finder, body, finder) for finder in current.state.key_finders)
    if request.method != "GET":
        return find_key(request, settings, _keys_in_form(current), finders)
    try:
        return find_key(request, settings, (), finders)
    except problems.KeyInvalid:
        if settings.required:
            raise
        # A client that follows a redirect sends the key that it had for another request.
        return None


def _call_finder(body: Body, finder: Callable[[Any], Any], _: object) -> Any:
    return body.call(finder)


def _keys_in_form(current: ProtectedRequest) -> list[str]:
    settings, body, environ = current.settings, current.body, current.request.environ
    if settings.field is None or not body.is_form:
        return []
    if settings.fingerprint is None and any(name in environ for name in settings.environ_names):
        # Read the form once, for the key and for the fingerprint, which a key in a header needs.
        with suppress(BytesMissingError):
            body.form_digest, keys = digest_form(body, settings)
            return keys
    return body.find_field(settings.field)


def identify(current: ProtectedRequest) -> ClaimRequest:
    """Find out who sends the request and what it asks for.

    :returns: what to ask of the engine for the view.
    :raises Problem: when the body cannot be compared.
    """
    settings, request = current.settings, current.request
    host = current.app.url_map.host_matching or current.app.subdomain_matching
    digest = _fingerprint(current, host=host)
    current.scope = _scope(current)
    if current.scope is None and settings.scope is None:
        current.state.notices.on_anonymous(request)
    assert current.key is not None, "it was found"
    namespace = settings.namespace or current.app.name
    return ClaimRequest(
        storage_key=storage_key(
            settings.prefix, namespace, current.scope, current.key, settings.name_key
        ),
        key=current.key,
        fingerprint=digest,
        settings=settings.engine,
        method=request.method,
        endpoint=request.endpoint or "",
        path=(request.root_path, request.path, request.host if host else None),
    )


def identify_again(current: ProtectedRequest, first: FirstCall) -> ClaimRequest:
    """Return what ``identify`` found before: the body may have been read since then.

    :param first: the call that identified the request.
    """
    current.key, current.scope = first.claim_request.key, first.scope
    return first.claim_request._replace(settings=current.settings.engine)


def _fingerprint(current: ProtectedRequest, *, host: bool) -> bytes:
    body, settings = current.body, current.settings
    try:
        if settings.fingerprint is not None:
            body.read()
        return fingerprint(current.request, body, settings, host=host)
    except ClientDisconnected:
        raise body_incomplete(current) from None
    except BytesMissingError:
        logger.error(_BYTES_MISSING, current.request.endpoint)
        raise body_unavailable(current) from None


def _scope(current: ProtectedRequest) -> str | bytes | None:
    settings = current.settings
    if settings.scope is None:
        return scope_of(current.request, settings)
    return current.body.call(partial(scope_of, settings=settings))


def claim_request_of_part(current: ProtectedRequest, of_view: ClaimRequest) -> ClaimRequest:
    """What to ask of the engine for the called function, which may be only a part of the view.

    :param of_view: what is asked for the view itself.
    """
    if current.part is None:
        return of_view
    part = current.state.protections.part_name(current.part, current.request)
    if part is None:
        return of_view
    settings = current.settings
    name = part_key(settings.prefix, of_view.storage_key, part, settings.name_key)
    return of_view._replace(storage_key=name)


_BYTES_MISSING = (
    "bytes of the body of a request to %s were read before Flask saw it, so its idempotency key "
    "cannot be checked: a WSGI middleware that reads environ['wsgi.input'] must put what it read "
    "back, as in environ['wsgi.input'] = io.BytesIO(data), or be a before_request function instead"
)
