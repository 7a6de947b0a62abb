"""Claims: what a request asks for, and a key that is ours while its view runs."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from flask_idempotent.records import InProgress
from flask_idempotent.settings import Terms, milliseconds
from flask_idempotent.stores.base import Renewal

#: A renewal that a stopped server carries out later than this must not revive a record.
_RENEWAL_VALID = 0.8


class Order(NamedTuple):
    """What a request asks of the engine.

    :param key: name of the record in the store.
    :param client_key: the client's own key, for signals and logs.
    :param fingerprint: digest of the request.
    :param terms: the settings of its view.
    """

    key: str
    client_key: str
    fingerprint: bytes
    terms: Terms


@dataclass(eq=False, slots=True)
class Claim:
    """A key that is ours while its view runs.

    :param order: what was asked.
    :param record: the record as it was claimed.
    :param sent: monotonic time before the claim's command was sent; its age counts from here.
    :param received: monotonic time when its reply had come.
    :param held: False once the lease is known to be lost.
    """

    order: Order
    record: InProgress
    sent: float
    received: float
    held: bool = True
    #: Held while a command about this claim is under way: none may overtake another. Its kind is
    #: looked up when it is made: gevent may have patched it after this module was imported.
    lock: threading.Lock = field(default_factory=lambda: threading.Lock())
    #: Its view has answered: what becomes of the response says whether the lease was lost.
    answered: bool = False
    settled: bool = False
    renewed: float = field(init=False)
    pid: int = field(default_factory=os.getpid)

    def __post_init__(self) -> None:
        self.renewed = self.sent

    @property
    def key(self) -> str:
        """The client's own key."""
        return self.order.client_key

    @property
    def owner(self) -> str:
        """A random token, new for each run."""
        return self.record.owner.hex()

    @property
    def attempt(self) -> int:
        """1 on a first run, higher when an earlier owner died: a fencing number."""
        return self.record.attempt

    @property
    def ours(self) -> bool:
        """Whether this process made the claim; a forked child owns none of its parent's."""
        return self.pid == os.getpid()

    def is_due(self, now: float) -> bool:
        """Say whether a third of the lease is over."""
        return now - self.renewed > self.order.terms.lease / 3

    def renewal(self) -> Renewal:
        """What to ask of the store to keep this claim."""
        terms = self.order.terms
        passed = time.monotonic() - self.received + _RENEWAL_VALID
        return Renewal(
            self.order.key,
            self.record,
            terms.lease_ms,
            terms.lifetime_ms,
            self.record.deadline - terms.lease_ms + milliseconds(passed),
        )
