"""What can happen in a simulation besides the steps of its actors and faults of commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask_idempotent.records import RunningRecord
from tests.interleavings.actors import Resting
from tests.interleavings.explore import Choice

if TYPE_CHECKING:
    from tests.interleavings.simulation import Simulation


def accidents(simulation: Simulation) -> Iterator[Choice]:
    """Yield the accidents that may happen now, of those that are left."""
    record = simulation.record()
    running = isinstance(record, RunningRecord) and not simulation.lapsed
    if simulation.lapses and running:
        yield Choice("time", "a lease passes", frozenset())
    if simulation.losses and record is not None:
        yield Choice("server", "loses the record", frozenset({"store"}))
    answer = simulation.database.answer
    if simulation.expiries and answer is not None and answer.ttl_ms > 0:
        yield Choice("database", "the answer expires", frozenset({"database"}))
    if simulation.crashes:
        alive = {a.process: None for a in simulation.actors if not isinstance(a.point, Resting)}
        for process in alive:
            touches = frozenset({f"process {process}", "crashes", "database"})
            yield Choice("crash", process, touches)
