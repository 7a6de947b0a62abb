"""Many requests at once, in several processes of several threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.harness import Row, Site, site, sized
from tests.chaos.swarm import Job, Swarm, ask, rounds
from tests.chaos.truth import Truth, all_answered, one_answer, ran_once, stored
from tests.support.redis_servers import Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

WORKERS, THREADS = sized((8, 16), (2, 8))


def conclude(row: Row, served: Site, swarm: Swarm, url: str) -> None:
    truth = Truth(served.folder)
    keys = {answer.key for answer in swarm.answers}
    row.requests, row.runs = swarm.requests, truth.count
    row.faults = swarm.faults.total()
    row.require(not swarm.faults, f"clients met faults: {swarm.faults}")
    row.require("Traceback" not in served.output(), served.output())
    all_answered(row, swarm.answers, swarm.unanswered)
    ran_once(row, truth, keys)
    one_answer(row, truth, swarm.answers)
    stored(row, url, keys)
    row.conclude()


def test_many_keys(clean_valkey: Server, tmp_path: Path) -> None:
    """Of many requests for many keys, each key's view runs once and all its answers are equal."""
    keys, copies = sized((2000, 20), (100, 6))
    jobs = rounds(
        "many",
        keys=keys,
        copies=copies,
        window=sized(100, 25),
        path=lambda dice: f"/work/{dice.randint(0, 50)}",
    )
    url = clean_valkey.url
    with site(tmp_path, url, workers=WORKERS, threads=THREADS) as served:
        with Swarm(served.port, WORKERS * THREADS, jobs) as swarm:
            pass
        conclude(Row(f"contention: {keys} keys × {copies}"), served, swarm, url)
    assert len(swarm.answers) == keys * copies


def test_one_key(clean_valkey: Server, tmp_path: Path) -> None:
    """Of very many requests at once for one key, one runs and all get its answer."""
    copies, clients = sized((1000, 200), (200, 50))
    url = clean_valkey.url
    with site(tmp_path, url, workers=WORKERS, threads=THREADS) as served:
        swarm = ask(served.port, clients, [Job("one", "/work/300")] * copies)
        conclude(Row(f"contention: one key × {copies}, {clients} at once"), served, swarm, url)
    assert len(swarm.answers) == copies
