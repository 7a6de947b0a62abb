"""A view that is slower than its lease."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.clients import Request, send_all
from tests.chaos.history import History
from tests.chaos.promises import all_answered, one_answer, ran_once, stored
from tests.chaos.serving import Row, serve, sized
from tests.support.redis_servers import Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]


def test_slow_view(clean_valkey: Server, tmp_path: Path) -> None:
    """A claim is renewed while its view runs, so that no duplicate takes it over."""
    lease, seconds = sized((1.0, 5.0), (0.4, 2.0))
    url, requests = clean_valkey.url, [Request("slow", f"/work/{int(seconds * 1000)}")] * 21
    with serve(tmp_path, url, workers=2, threads=16, IDEMPOTENT_LEASE=lease) as served:
        clients = send_all(served.port, 21, requests)
        history = History(tmp_path, lease)
        row = Row("slow view, 20 waiting", clients.sent, history.count)
        row.faults = clients.faults.total()
        row.require(not clients.faults, f"clients met faults: {clients.faults}")
        all_answered(row, clients.answers, clients.unanswered)
        ran_once(row, history, ["slow"])
        one_answer(row, history, clients.answers)
        stored(row, url, ["slow"])
        row.conclude()
    assert len(clients.answers) == 21
