"""Outcomes: what the engine tells a request to do."""

from __future__ import annotations

import math
from typing import NamedTuple

from flask_idempotent.engine.claims import Claim
from flask_idempotent.records import Completed


class Replay(NamedTuple):
    """The key's response.

    :param completed: the stored response.
    :param waited: seconds that this request waited for it; 0 where it was there.
    """

    completed: Completed
    waited: float


class Waiting(NamedTuple):
    """Another request with this key is running, and this one waits no longer.

    :param left: seconds that the other's lease still has; None where that is not known.
    :param waited: seconds that this request waited; 0 where it was not to wait.
    """

    left: float | None
    waited: float = 0.0

    @property
    def retry_after(self) -> int:
        """Whole seconds after which another try makes sense, at least 1."""
        return max(1, math.ceil(self.left or 0))


class Mismatch:
    """The key belongs to another request."""


class Unknown:
    """The key's owner died, and nobody may run again."""


Outcome = Claim | Replay | Waiting | Mismatch | Unknown
