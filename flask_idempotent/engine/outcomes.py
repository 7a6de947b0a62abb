"""Outcomes: what the engine tells a request to do."""

from __future__ import annotations

import math
from typing import NamedTuple

from flask_idempotent.engine.claims import Claim
from flask_idempotent.records import CompletedRecord


class Replay(NamedTuple):
    """The key's response.

    :param completed: the stored response.
    :param waited: seconds that this request waited for it; 0 where it was there.
    """

    completed: CompletedRecord
    waited: float


class StillRunning(NamedTuple):
    """Another request with this key is running, and this one waits no longer.

    :param lease_left: seconds that the other's lease still has; None where that is not known.
    :param waited: seconds that this request waited; 0 where it was not to wait.
    :param started: wall clock of the other when its run began, seconds since 1970; 0 where that is
        not known.
    """

    lease_left: float | None
    waited: float = 0.0
    started: float = 0.0

    def retry_after(self, now: float) -> int:
        """Tell after how many whole seconds another try makes sense.

        After as long again as the other has run so far, but not after its lease is over.

        :param now: the wall clock, seconds since 1970.
        """
        if not self.started:
            return 1
        ran = max(now - self.started, self.waited)
        return max(1, math.ceil(ran if self.lease_left is None else min(ran, self.lease_left)))


class FingerprintMismatch:
    """The key belongs to another request."""


class OutcomeUnknown:
    """The key's owner died, and nobody may run again."""


Outcome = Claim | Replay | StillRunning | FingerprintMismatch | OutcomeUnknown
