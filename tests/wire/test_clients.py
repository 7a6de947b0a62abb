"""Clients that go away: what they asked for is done once, and their retry gets its result."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.wire.client import JSON, Connection, message
from tests.wire.conftest import Wire

Leave = Callable[[Connection], None]


@pytest.fixture(params=["close", "reset"])
def leave(request: pytest.FixtureRequest) -> Leave:
    """A way to go away: in good order, or as a process that is killed."""
    return {"close": Connection.close, "reset": Connection.reset}[request.param]


def slow(wire: Wire, view: str = "slow") -> bytes:
    return message("POST", wire.path(view), [wire.key, JSON], b'{"a": 1}')


def test_c2_while_the_view_runs(wire: Wire, leave: Leave) -> None:
    """The response of a client that went away is stored, and its retry gets it."""
    client = wire.connected(slow(wire))
    wire.reached()
    leave(client)
    wire.open()
    assert wire.completed() == "kept"
    again = wire.exchange(slow(wire))
    assert again.json == {"run": 1}
    assert again.replayed
    assert wire.runs == 1


def test_c1_retry_while_the_view_runs(wire: Wire, leave: Leave) -> None:
    """A retry that comes before the view is done waits for the first one's response."""
    client = wire.connected(slow(wire))
    wire.reached()
    leave(client)
    with wire.connected(slow(wire)) as retry:
        wire.waiters(1)
        wire.open()
        again = retry.answer()
    assert again.json == {"run": 1}
    assert again.replayed


def test_r3_in_the_middle_of_a_stream(wire: Wire, leave: Leave) -> None:
    """A stream that its client left is not kept: the retry gets 409 and no second run."""
    client = wire.connected(slow(wire, "endless"))
    begin = client.chunk() if client.head().chunked else client.take(5)
    assert begin == b"begin"
    wire.reached()
    leave(client)
    wire.open()
    assert wire.completed() == "not kept"
    again = wire.exchange(slow(wire, "endless"))
    assert again.problem == (409, "response-not-kept")
    assert again.get("Retry-After") is None
    assert wire.runs == 1


def test_c3_while_it_waits(wire: Wire, leave: Leave) -> None:
    """A duplicate that goes away while it waits harms nobody."""
    with wire.connected(slow(wire)) as owner:
        wire.reached()
        duplicate = wire.connected(slow(wire))
        wire.waiters(1)
        leave(duplicate)
        wire.open()
        assert owner.answer().json == {"run": 1}
    assert wire.exchange(slow(wire)).replayed
    assert wire.runs == 1


def test_c2_gone_before_the_replay(wire: Wire, leave: Leave) -> None:
    """A client that does not stay for its replay changes nothing."""
    assert wire.ask("echo", [wire.key]).json["run"] == 1
    leave(wire.connected(message("POST", wire.path("echo"), [wire.key], b"")))
    assert wire.ask("echo", [wire.key]).replayed
    assert wire.runs == 1
