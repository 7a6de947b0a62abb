"""The lease at a real server, whose time a test cannot move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_idempotent.records import Record, RunningRecord
from tests.interleavings.case import KEY
from tests.stores.harness import lapse
from tests.support.polling import until

if TYPE_CHECKING:
    from tests.interleavings.simulation import Simulation


class ServerLease:
    """Keeps a real server's lease in step with the simulation's time.

    The server has a clock of its own, so records get shorter times to live instead.
    """

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def follow(self, before: Record | None, after: Record | None) -> None:
        was_running = isinstance(before, RunningRecord) and not before.held
        is_running = isinstance(after, RunningRecord) and not after.held
        if was_running and not is_running:
            # Wait until each waiter has its message.
            until(lambda: all(waiter.notified for waiter in self._simulation.waiters), 5)

    def advance(self) -> None:
        if isinstance(self._simulation.record(), RunningRecord) and self._simulation.lapsed:
            lapse(self._simulation.store, KEY)
