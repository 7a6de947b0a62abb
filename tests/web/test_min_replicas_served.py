"""``min_replicas`` from a request to a real primary, whose replica falls silent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import pytest
from flask import Flask

from flask_idempotent import _timing
from flask_idempotent.record_format import decode
from flask_idempotent.records import CompletedRecord
from flask_idempotent.web.state import state_of
from tests.conftest import MakeApp
from tests.support.clients import post, problem
from tests.support.pauses import within
from tests.support.polling import until
from tests.support.redis_servers import valkey_binary
from tests.support.replicated_servers import ReplicatedServer


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicatedServer]:
    servers = ReplicatedServer(valkey_binary(), tmp_path_factory.mktemp("replicated"))
    try:
        yield servers.start()
    finally:
        servers.stop()


@pytest.fixture
def app(replicated: ReplicatedServer, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setattr(_timing, "REPLICAS_EVERY", 0.1)
    replicated.primary.client.flushall()
    return make_app(config={"REDIS_URL": replicated.url}, min_replicas=1)


def records(replicated: ReplicatedServer) -> list[object]:
    """The records on the primary, without those that are released meanwhile."""
    client = replicated.primary.client
    values = map(client.get, client.scan_iter("IDEMPOTENT_*"))
    return [decode(value) for value in values if value is not None]


def test_isolated_primary(app: Flask, replicated: ReplicatedServer) -> None:
    """It accepts no claim: each request gets 503 within two seconds, and nothing is left behind."""
    runs = count(1)
    app.add_url_rule("/", "view", lambda: f"run {next(runs)}", methods=["POST"])
    with replicated.replica_paused(ends_waits=False):
        for _ in range(2):
            with within(_timing.STORE_FAILS_WITHIN):
                assert problem(post(app)) == (503, "store-unavailable")
            # It is released in the background; a request that comes before that waits for it.
            until(lambda: records(replicated) == [])
    until(lambda: post(app).text == "run 1")


def test_replica_that_falls_silent_while_a_view_runs(
    app: Flask, replicated: ReplicatedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gets the response, a retry its replay, and the replica has it when it is back."""
    monkeypatch.setattr(_timing, "REPLICAS_TIMEOUT", 20.0)
    monkeypatch.setattr(_timing, "REPLY_TIMEOUT", 30.0)

    def view() -> str:
        silence.enter_context(replicated.replica_paused())
        return "done"

    app.add_url_rule("/", "view", view, methods=["POST"])
    with ExitStack() as silence:
        answers = [post(app) for _ in range(2)]
        assert [answer.text for answer in answers] == ["done"] * 2
        assert answers[1].headers["Idempotent-Replayed"] == "true"
        assert state_of(app).engine.worker.pending
    until(lambda: not state_of(app).engine.worker.pending)
    (name,) = replicated.replica.client.scan_iter("IDEMPOTENT_*")
    record = decode(replicated.replica.client.get(name))
    assert isinstance(record, CompletedRecord)
    assert record.body == b"done"
