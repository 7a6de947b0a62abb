"""Request state: what the library keeps about a request while its views run.

It is kept on the request object, not in its WSGI environment: a view may copy the environment for
another request, which has a key of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flask_idempotent._environ import CLAIMS
from flask_idempotent.engine.claims import Claim, ClaimRequest
from flask_idempotent.web.protection import IDENTIFYING_SETTINGS

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask import Request

    from flask_idempotent.settings import Settings


class FirstCall(NamedTuple):
    """What the first call that looked for a request's key found.

    :param settings: the settings of that call.
    :param claim_request: what it asked of the engine for the view.
    :param scope: who the key belongs to.
    """

    settings: Settings
    claim_request: ClaimRequest
    scope: str | bytes | None

    def has_same_identity(self, settings: Settings) -> bool:
        """Whether a call with these settings finds the same key, caller and fingerprint."""
        return settings is self.settings or all(
            getattr(settings, name) == getattr(self.settings, name) for name in IDENTIFYING_SETTINGS
        )


class RequestState:
    """What the library keeps about one request.

    It must not refer to the request: in a cycle, a body of any size would stay in memory until the
    garbage collector runs.
    """

    __slots__ = ("claim", "first_call", "in_transaction", "renders_key", "runs_unclaimed")

    def __init__(self) -> None:
        #: The claim of its key, once there is one.
        self.claim: Claim | None = None
        #: The first call that looked for its key.
        self.first_call: FirstCall | None = None
        #: Whether its view runs without a claim although the request has a key.
        self.runs_unclaimed = False
        #: Whether its view, which claims nothing, runs in a transaction that the library ends.
        self.in_transaction = False
        #: Whether the page has a fresh key, so that no cache may keep it.
        self.renders_key = False

    @property
    def is_running(self) -> bool:
        """Whether its view runs, so that what it calls claims nothing."""
        return self.runs_unclaimed or (self.claim is not None and _is_running(self.claim))


_ATTRIBUTE: Final = "_flask_idempotent"


def request_state(request: Request) -> RequestState:
    """Return the state of a request, which the first call creates."""
    state: RequestState | None = getattr(request, _ATTRIBUTE, None)
    if state is None:
        state = RequestState()
        setattr(request, _ATTRIBUTE, state)
    return state


def note_claim(request: Request, claim: Claim) -> None:
    """Note the claim of a request's key, before its view runs."""
    request_state(request).claim = claim
    environ = request.environ
    environ[CLAIMS] = (*environ.get(CLAIMS, ()), claim)


def runs_already(environ: WSGIEnvironment, storage_key: str) -> bool:
    """Whether the view that has claimed this key made the request, which must not wait for it."""
    claims: tuple[Claim, ...] = environ.get(CLAIMS, ())
    return any(claim.storage_key == storage_key and _is_running(claim) for claim in claims)


def _is_running(claim: Claim) -> bool:
    return not (claim.view_returned or claim.settled)
