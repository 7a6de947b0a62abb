"""Claims: what a request asks for, and a key that is ours while its view runs."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, field
from typing import NamedTuple

from flask_idempotent import _timing
from flask_idempotent._msgpack import pack
from flask_idempotent.records import RunningRecord
from flask_idempotent.settings import EngineSettings
from flask_idempotent.stores.base import Renewal


class ClaimRequest(NamedTuple):
    """What a request asks of the engine.

    :param storage_key: name of the record in the store.
    :param key: the client's own key, for signals and logs.
    :param fingerprint: digest of the request.
    :param settings: the settings of its view.
    :param method: the request's method.
    :param endpoint: the endpoint of its route, for people who look at the record.
    :param path: what says, with the method, which operation the request is for.
    """

    storage_key: str
    key: str
    fingerprint: bytes
    settings: EngineSettings
    method: str = ""
    endpoint: str = ""
    path: tuple[str | None, ...] = ()

    def operation(self) -> bytes:
        """Digest what a corrected request has in common with the first: method and path."""
        return hashlib.blake2b(pack((self.method, *self.path)), digest_size=16).digest()


@dataclass(eq=False, slots=True)
class Claim:
    """A key that is ours while its view runs.

    :param request: what was asked.
    :param record: the record as it was claimed.
    :param sent: monotonic time before the claim's command was sent; its age counts from here.
    :param held: False once the lease is known to be lost.
    :param dead: after a take-over the record of the owner that died, where the store tells.
    """

    request: ClaimRequest
    record: RunningRecord
    sent: float
    held: bool = True
    dead: RunningRecord | None = None
    #: Held while a command about this claim is under way: none may overtake another. Its kind is
    #: looked up when it is made: gevent may have patched it after this module was imported.
    lock: threading.Lock = field(default_factory=lambda: threading.Lock())
    #: Its view has answered: what becomes of the response says whether the lease was lost.
    answered: bool = False
    settled: bool = False
    #: Its view has begun, and has returned.
    began: bool = False
    returned: bool = False
    #: Its view has given it up.
    given_up: bool = False
    #: It was told that its view has run for longer than ``max_run``.
    overran: bool = False
    renewed: float = field(init=False)
    pid: int = field(default_factory=os.getpid)

    def __post_init__(self) -> None:
        self.renewed = self.sent

    @property
    def storage_key(self) -> str:
        """The name of the record in the store."""
        return self.request.storage_key

    @property
    def key(self) -> str:
        """The client's own key."""
        return self.request.key

    @property
    def owner(self) -> str:
        """A random token, new for each run."""
        return self.record.owner.hex()

    @property
    def attempt(self) -> int:
        """1 on a first run, higher after an earlier one: a fencing number."""
        return self.record.attempt

    def release(self) -> None:
        """Give the key up when the view has ended: its answer is not stored, whatever it is.

        For a view that finds that it has nothing to do. The next request with the key runs.
        """
        self.given_up = True

    @property
    def ours(self) -> bool:
        """Whether this process made the claim; a forked child owns none of its parent's."""
        return self.pid == os.getpid()

    def is_due(self, now: float) -> bool:
        """Say whether the lease is to be renewed."""
        return now - self.renewed > self.request.settings.lease * _timing.RENEW_AFTER

    def has_lapsed(self, now: float) -> bool:
        """Say whether the lease is over, unless the store renewed it later than we know of."""
        return now - self.renewed >= self.request.settings.lease

    def has_overrun(self, now: float) -> bool:
        """Say whether the view runs for longer than its lease is to be renewed."""
        limit = self.request.settings.max_run
        return limit is not None and not self.returned and now - self.sent > limit

    def renewal(self) -> Renewal:
        """What to ask of the store to keep this claim."""
        return Renewal(self.request.storage_key, self.record, self.request.settings.running_ttl_ms)
