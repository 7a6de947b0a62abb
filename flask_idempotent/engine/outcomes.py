"""Outcomes: the results of a request's negotiation for its key."""

from __future__ import annotations

import math
from typing import NamedTuple

from flask_idempotent.engine.claims import Claim
from flask_idempotent.records import CompletedRecord


class Replay(NamedTuple):
    """The key is completed: replay its response.

    :param completed: the stored response.
    :param waited: seconds that this request waited for it; 0 where it did not wait.
    """

    completed: CompletedRecord
    waited: float


class StillRunning(NamedTuple):
    """Another request with this key still runs, and this one does not wait any longer.

    :param lease_left: seconds until the other's lease ends; None where that is not known.
    :param waited: seconds that this request waited; 0 where it did not wait.
    :param started: when the other's run began by its own wall clock, in seconds since 1970; 0 where
        that is not known.
    """

    lease_left: float | None
    waited: float = 0.0
    started: float = 0.0

    def retry_after(self, now: float) -> int:
        """Whole seconds after which the client should try again.

        This is the time for which the other has run so far, but at most what its lease has left.

        :param now: the wall clock, in seconds since 1970.
        """
        if not self.started:
            return 1
        ran = max(now - self.started, self.waited)
        return max(1, math.ceil(ran if self.lease_left is None else min(ran, self.lease_left)))


class Vacant:
    """No run has the key, and this request, whose own run has lost it, does not run again."""

    def retry_after(self, now: float) -> int:
        """Whole seconds after which the client should try again: the next request runs."""
        return 1


class FingerprintMismatch:
    """The key belongs to a request with another fingerprint."""


class OutcomeUnknown(NamedTuple):
    """The key's owner died, and the view does not run again, or not yet.

    :param lease_left: seconds until the application's function is asked again what follows; None
        where there is no such function.
    """

    lease_left: float | None = None

    @property
    def retry_after(self) -> int | None:
        """Whole seconds after which the client should try again; None where it should not."""
        return None if self.lease_left is None else max(1, math.ceil(self.lease_left))


#: What a request gets whose view does not run.
Unclaimed = Replay | StillRunning | Vacant | FingerprintMismatch | OutcomeUnknown
Outcome = Claim | Unclaimed
