"""Checks that the search finds a fault: a rule that cannot be broken proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from flask_idempotent.stores.memory import MemoryStore
from tests.interleavings.case import Case
from tests.interleavings.database import Database
from tests.interleavings.explore import BrokenRule, sample
from tests.interleavings.simulation import Simulation
from tests.interleavings.stopped_time import stopped_time

#: How many random schedules are searched, the same each time.
SCHEDULES = 1000


class Fault(NamedTuple):
    """A function of the engine, and what takes its place.

    :param owner: the class or the module that has the function.
    """

    owner: object
    name: str
    broken: Callable[..., object]


def assert_found(
    rule: str,
    case: Case,
    *,
    store: Callable[..., MemoryStore] = MemoryStore,
    database: type[Database] = Database,
    fault: Fault | None = None,
    schedules: int = SCHEDULES,
) -> None:
    """Fail unless a rule is broken in some schedule.

    :param rule: pattern of what the broken rule says.
    :param fault: what is wrong with the engine.
    """
    with pytest.MonkeyPatch.context() as patch, stopped_time() as time:
        if fault is not None:
            patch.setattr(*fault)
        with pytest.raises(BrokenRule, match=rule):
            sample(lambda: Simulation(case, store(time.monotonic), time, database), schedules)
