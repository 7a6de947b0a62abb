"""What a simulation consists of: its requests, and what may go wrong in it."""

from __future__ import annotations

from dataclasses import dataclass

from flask_idempotent.engine.claims import ClaimRequest
from flask_idempotent.settings import EngineSettings

KEY = "IDEMPOTENT_{interleavings}"
INVALID = 422
#: Milliseconds that a record is kept.
LIFETIME = 3_600_000
LEASE = 30.0
#: A waiter outlasts two leases, so that it sees all that happens.
TIMEOUT = 70.0

#: What can happen to a command on its way.
FAULTS = {
    "lost": "it is carried out and its reply never comes",
    "dropped": "it never arrives",
    "late": "its reply is not waited for any longer, and it is carried out at some later time",
    "resent": "it is carried out, its reply never comes, and it is sent again at once",
    "overtaken": "its connection breaks, it is sent again at once, and the first one comes later",
    "unknown": "a renewal whose reply says nothing",
}

#: What can happen to a statement on its way to the database.
DATABASE_FAULTS = {
    # The database refuses the connection.
    "look up": ("away",),
    # Another transaction holds the key's lock for longer than this one waits.
    "insert": ("locked",),
    # The connection breaks. It was committed; or it was not; or it is, some time later.
    "commit": ("lost", "dropped", "late"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    :param process: the process that serves it.
    :param fails: whether its view raises.
    :param status: what its view answers; after INVALID a corrected request may use the key.
    :param unread: whether nobody reads its response, which is then stored in the background.
    :param tries: how often it is sent while the answer is 503.
    :param runs_anyway: whether its view runs while the store fails.
    :param decides: what its function says when it takes over from an owner that died: ``"rerun"``,
        ``"hold"`` or ``"answer"``; empty where it has none.
    :param steps: the names of its view's steps; those that end with "!" run once.
    :param fails_in: the step whose function raises.
    :param error_status: the status of what an error handler answers to a failed commit, which is
        kept; 0 for none.
    """

    process: str
    payload: str = "one"
    fails: bool = False
    status: int = 200
    unread: bool = False
    takeover: bool = True
    timeout: float = TIMEOUT
    tries: int = 1
    runs_anyway: bool = False
    error_status: int = 0
    decides: str = ""
    steps: tuple[str, ...] = ()
    fails_in: str = ""

    @property
    def claim_request(self) -> ClaimRequest:
        fingerprint = self.payload.encode().ljust(16, b"-")
        correctable = frozenset({INVALID})
        settings = EngineSettings(
            self.timeout,
            LIFETIME / 1000,
            LEASE,
            self.takeover,
            correctable=correctable,
            decides=self.decides != "",
        )
        return ClaimRequest(KEY, "key", fingerprint, settings, "POST", "orders", ("/orders",))


@dataclass(frozen=True, slots=True)
class Case:
    """The requests, and how often each kind of accident may happen, at any step.

    :param renewals: rounds of each process's worker.
    :param polls: how often each waiter polls without being woken.
    :param kinds: the faults that may happen.
    :param transaction: whether the views' database keeps the answers.
    :param expiries: how often an answer in the database may expire.
    """

    requests: tuple[Request, ...]
    renewals: int = 0
    polls: int = 0
    lapses: int = 0
    crashes: int = 0
    losses: int = 0
    faults: int = 0
    kinds: tuple[str, ...] = tuple(FAULTS)
    transaction: bool = False
    database_faults: int = 0
    expiries: int = 0

    @property
    def has_steps(self) -> bool:
        """Whether a view has steps."""
        return any(request.steps for request in self.requests)


def is_once(step: str) -> bool:
    """Whether a step runs once."""
    return step.endswith("!")
