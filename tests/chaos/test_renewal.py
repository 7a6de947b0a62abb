"""A view that is slower than its lease."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.harness import Row, site, sized
from tests.chaos.swarm import Job, ask
from tests.chaos.truth import Truth, all_answered, one_answer, ran_once, stored
from tests.support.redis_servers import Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]


def test_slow_view(clean_valkey: Server, tmp_path: Path) -> None:
    """A claim is renewed while its view runs, so that no duplicate takes it over."""
    lease, seconds = sized((1.0, 5.0), (0.4, 2.0))
    url, jobs = clean_valkey.url, [Job("slow", f"/work/{int(seconds * 1000)}")] * 21
    with site(tmp_path, url, workers=2, threads=16, IDEMPOTENT_LEASE=lease) as served:
        swarm = ask(served.port, 21, jobs)
        truth = Truth(tmp_path, lease)
        row = Row("slow view, 20 waiting", swarm.requests, truth.count)
        row.faults = swarm.faults.total()
        row.require(not swarm.faults, f"clients met faults: {swarm.faults}")
        all_answered(row, swarm.answers, swarm.unanswered)
        ran_once(row, truth, ["slow"])
        one_answer(row, truth, swarm.answers)
        stored(row, url, ["slow"])
        row.conclude()
    assert len(swarm.answers) == 21
