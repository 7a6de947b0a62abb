"""A real server's time, which does not move when told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_idempotent.records import Record, RunningRecord
from tests.interleavings.case import KEY
from tests.stores.harness import lapse
from tests.support.polling import until

if TYPE_CHECKING:
    from tests.interleavings.world import World


class Mirror:
    """Keeps a real server's lease in step with the world's time.

    The server has its own clock, which does not move when told; records are given less to live.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def follow(self, before: Record | None, after: Record | None) -> None:
        if isinstance(before, RunningRecord) and not isinstance(after, RunningRecord):
            # Each is told, but for those that were before.
            until(lambda: all(bell.rung for bell in self._world.bells), 5)

    def advance(self) -> None:
        if isinstance(self._world.record(), RunningRecord) and self._world.lapsed:
            lapse(self._world.store, KEY)
