"""A process of an older release meets what a newer one has written, during a deployment."""

from __future__ import annotations

from itertools import count

import pytest

from flask_idempotent._record_header import VERSION
from flask_idempotent.record_format import encode
from tests.conftest import MakeApp
from tests.golden.contents import RECORDS
from tests.support.clients import post, problem
from tests.support.redis_servers import Server


@pytest.mark.parametrize("on_crash", ["rerun", "hold"])
@pytest.mark.parametrize("server", ["valkey", "old redis"], indirect=True)
@pytest.mark.parametrize("name", RECORDS)
def test_runs_nothing(make_app: MakeApp, server: Server, name: str, on_crash: str) -> None:
    """A record of a newer layout gets 503 record-unreadable; the view does not run, and the record
    stays as it is, in progress, released or completed."""
    app, runs = make_app(config={"REDIS_URL": server.url}, on_crash=on_crash, timeout=0), count(1)
    app.post("/")(lambda: f"run {next(runs)}")
    assert post(app).text == "run 1"
    (storage_key,) = server.client.keys()
    newer = bytes([VERSION + 1]) + encode(RECORDS[name])[1:]
    # Within this time the lease of each claim is over: the next request would take it over.
    server.client.set(storage_key, newer, px=60_000)
    for _ in range(2):
        assert problem(post(app)) == (503, "record-unreadable")
    assert server.client.get(storage_key) == newer
    assert server.client.pttl(storage_key) <= 60_000
    assert next(runs) == 2
