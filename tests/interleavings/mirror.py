"""A real server's time, which does not move when told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flask_idempotent.records import InProgress, Record
from flask_idempotent.stores.base import Renewal
from tests.interleavings.case import KEY, LEASE
from tests.stores.harness import NEVER, lapse
from tests.waiting import until

if TYPE_CHECKING:
    from tests.interleavings.world import World


class Mirror:
    """Keeps a real server's lease in step with the world's time.

    The server has its own clock, which does not move when told; its deadlines are rewritten.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._ends = 0.0
        self.lapsed = False
        self.claimed: dict[int, float] = {}

    def follow(self, before: Record | None, after: Record | None) -> None:
        if isinstance(after, InProgress) and after != before:
            deadlines = before.deadline if isinstance(before, InProgress) else None
            if after.deadline != deadlines:
                self._ends, self.lapsed = self._world.time.now + LEASE, False
        if isinstance(before, InProgress) and not isinstance(after, InProgress):
            # Each is told, but for those that were before.
            until(lambda: all(bell.rung for bell in self._world.bells), 5)

    def advance(self) -> None:
        record = self._world.record()
        if isinstance(record, InProgress) and self._world.time.now >= self._ends:
            lapse(self._world.store, KEY)
            self.lapsed = True

    def valid(self, renewal: Renewal) -> Renewal:
        """Say in the server's time whether a record that is gone may be put back."""
        since = self.claimed[renewal.record.deadline]
        allowed = (renewal.until - renewal.record.deadline + renewal.lease) / 1000
        late = self._world.time.now > since + allowed
        return replace(renewal, until=0 if late else NEVER)
