"""The engine and the stores' contract over every interleaving of small cases.

``INTERLEAVINGS=full`` runs all schedules of each case with a number of schedules, and more on
the real server, in some minutes; else the larger cases are sampled, the same each time, in some
seconds. The end of the report tells how many schedules ran.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flask_idempotent import _timing
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.stores.memory import MemoryStore
from tests.conftest import CLUSTERS
from tests.interleavings.case import KEY, Case
from tests.interleavings.cases import CASES, SCHEDULES
from tests.interleavings.database_cases import DATABASE_CASES, DATABASE_SCHEDULES
from tests.interleavings.explore import explore, ran, sample
from tests.interleavings.simulation import Simulation
from tests.interleavings.step_cases import STEP_CASES, STEP_SCHEDULES
from tests.interleavings.stopped_time import Time, stopped_time
from tests.support.redis_fleets import Cluster
from tests.support.redis_servers import Server
from tests.support.sentinel_sets import SentinelSet

#: Those that run on several servers.
STORE_CASES = CASES | STEP_CASES
ALL_CASES = STORE_CASES | DATABASE_CASES
ALL_SCHEDULES = SCHEDULES | STEP_SCHEDULES | DATABASE_SCHEDULES

FULL = os.environ.get("INTERLEAVINGS") == "full"
#: Cases with more schedules are sampled in the short form; this many are drawn.
LARGE = 300
SAMPLE = 30
#: In the full form, this many are drawn of a case that is too large for all.
FULL_SAMPLE = 5_000
REAL_SAMPLE = 500 if FULL else 5

pytestmark = pytest.mark.timeout(600 if FULL else 60)


@contextmanager
def untraced() -> Iterator[None]:
    """Measure no coverage, which actors that take turns in one thread confuse."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


@pytest.fixture
def time() -> Iterator[Time]:
    with stopped_time() as time, untraced():
        yield time


@pytest.fixture
def real_store(clean_valkey: Server) -> Iterator[InspectableStore]:
    yield from patient_store(clean_valkey.url)


@pytest.fixture
def sentinels_store(valkey_sentinels: SentinelSet) -> Iterator[InspectableStore]:
    yield from patient_store(valkey_sentinels.url)


@pytest.fixture(params=CLUSTERS)
def cluster_store(request: pytest.FixtureRequest) -> Iterator[InspectableStore]:
    cluster: Cluster = request.getfixturevalue(CLUSTERS[request.param])
    cluster.flush()
    yield from patient_store(cluster.url)


def patient_store(url: str) -> Iterator[InspectableStore]:
    with pytest.MonkeyPatch.context() as patch:
        # Faults come from the schedule alone, however slow this machine is.
        patch.setattr(_timing, "REPLY_TIMEOUT", 10.0)
        store = open_store(url, "tests")
    assert isinstance(store, InspectableStore)
    yield store
    store.close()


def share(case: Case, count: int) -> int:
    """How many schedules of a case are drawn, of a number that is meant for most cases."""
    # Requests that go through the web layer take five times as long, and steps are more commands.
    return count // 5 if FULL and (case.transaction or case.has_steps) else count


def run(case: Case, time: Time, expected: int | None) -> int:
    def make() -> Simulation:
        return Simulation(case, MemoryStore(time.monotonic), time)

    if expected is None:
        return sample(make, share(case, FULL_SAMPLE if FULL else SAMPLE))
    if expected > LARGE and not FULL:
        return sample(make, SAMPLE)
    count = explore(make)
    assert count >= expected, f"the search finds {count} schedules where there were {expected}"
    return count


@pytest.mark.parametrize("name", ALL_CASES)
def test_every_interleaving(name: str, time: Time) -> None:
    """Every rule holds, whatever the order of steps and the faults between them."""
    count = run(ALL_CASES[name], time, ALL_SCHEDULES.get(name))
    ran["in memory"] += count
    print(f"{name}: {count} schedules")


@pytest.mark.parametrize("name", ALL_CASES if FULL else list(ALL_CASES)[::3])
def test_on_a_real_server(name: str, real_store: InspectableStore, time: Time) -> None:
    """The scripts and the real pub/sub keep every rule that the store in memory keeps."""
    run_on(real_store, name, time)


@pytest.mark.parametrize("name", STORE_CASES if FULL else list(STORE_CASES)[::8])
def test_on_sentinels(name: str, sentinels_store: InspectableStore, time: Time) -> None:
    """The same holds on the primary that Sentinels name."""
    run_on(sentinels_store, name, time)


@pytest.mark.parametrize("name", STORE_CASES if FULL else list(STORE_CASES)[4::8])
def test_on_a_cluster(name: str, cluster_store: InspectableStore, time: Time) -> None:
    """The same holds on a cluster, with its sharded pub/sub."""
    run_on(cluster_store, name, time)


def run_on(store: InspectableStore, name: str, time: Time) -> None:
    def make() -> Simulation:
        store.delete([KEY])
        return Simulation(ALL_CASES[name], store, time)

    expected, drawn = ALL_SCHEDULES.get(name), share(ALL_CASES[name], REAL_SAMPLE)
    small = expected is not None and expected <= drawn
    count = explore(make) if small else sample(make, drawn)
    ran["on a real server"] += count
    assert count >= (expected if small and expected else 2)
