"""Many requests at once, in several processes of several threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.clients import Request, RetryingClients, rounds, send_all
from tests.chaos.history import History
from tests.chaos.promises import all_answered, one_answer, ran_once, stored
from tests.chaos.serving import Row, ServedApp, serve, sized
from tests.support.redis_servers import Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

WORKERS, THREADS = sized((8, 16), (2, 8))


def conclude(row: Row, served: ServedApp, clients: RetryingClients, url: str) -> None:
    history = History(served.folder)
    keys = {answer.key for answer in clients.answers}
    row.requests, row.runs = clients.sent, history.count
    row.faults = clients.faults.total()
    row.require(not clients.faults, f"clients met faults: {clients.faults}")
    row.require("Traceback" not in served.output(), served.output())
    all_answered(row, clients.answers, clients.unanswered)
    ran_once(row, history, keys)
    one_answer(row, history, clients.answers)
    stored(row, url, keys)
    row.conclude()


def test_many_keys(clean_valkey: Server, tmp_path: Path) -> None:
    """Of many requests for many keys, each key's view runs once and all its answers are equal."""
    keys, copies = sized((2000, 20), (100, 6))
    requests = rounds(
        "many",
        keys=keys,
        copies=copies,
        window=sized(100, 25),
        path=lambda dice: f"/work/{dice.randint(0, 50)}",
    )
    url = clean_valkey.url
    with serve(tmp_path, url, workers=WORKERS, threads=THREADS) as served:
        with RetryingClients(served.port, WORKERS * THREADS, requests) as clients:
            pass
        conclude(Row(f"contention: {keys} keys × {copies}"), served, clients, url)
    assert len(clients.answers) == keys * copies


def test_one_key(clean_valkey: Server, tmp_path: Path) -> None:
    """Of very many requests for one key at once, one runs and all get its answer."""
    copies, count = sized((1000, 200), (200, 50))
    url = clean_valkey.url
    with serve(tmp_path, url, workers=WORKERS, threads=THREADS) as served:
        clients = send_all(served.port, count, [Request("one", "/work/300")] * copies)
        conclude(Row(f"contention: one key × {copies}, {count} at once"), served, clients, url)
    assert len(clients.answers) == copies
