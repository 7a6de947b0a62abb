"""The promise of speed: how many commands a request costs, as the server sees them arrive.

MONITOR shows every command with its origin; those that a script runs inside the server come from
``lua`` and are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import redis
from flask import Flask, Response

from flask_idempotent import _timing, current_claim, step
from flask_idempotent.web.state import state_of
from tests.conftest import MakeApp
from tests.stores.harness import HOUR, running
from tests.support.clients import Gate, post
from tests.support.redis_servers import Server

#: What redis-py sends when it opens a connection, and what the tests send.
SETUP = {"CLIENT", "HELLO", "SELECT", "AUTH"}
MARK = "ECHO"


class Wire:
    """Reads what clients send to a server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._client = redis.Redis(port=server.port, socket_timeout=10)
        self._monitor = self._client.monitor().__enter__()

    def _next(self) -> str | None:
        seen = self._monitor.next_command()
        name: str = seen["command"].split(" ", 1)[0].upper()
        return None if seen["client_type"] == "lua" or name in SETUP else name

    def sent(self) -> Counter[str]:
        """What was sent since the last look."""
        self._server.client.echo("mark")
        names: Counter[str] = Counter()
        while (name := self._next()) != MARK:
            if name is not None:
                names[name] += 1
        return names

    def wait_for(self, name: str, number: int) -> Counter[str]:
        """Read on until this many commands of a name have been sent."""
        names: Counter[str] = Counter()
        while names[name] < number:
            seen = self._next()
            if seen is not None:
                names[seen] += 1
        return names

    def close(self) -> None:
        self._monitor.__exit__(None, None, None)
        self._client.close()


@pytest.fixture
def app(make_app: MakeApp, server: Server) -> Flask:
    """An application whose scripts the server knows and whose connection is open."""
    app, runs = make_app(config={"REDIS_URL": server.url}), count(1)

    @app.post("/")
    def view() -> str:
        return f"run {next(runs)}"

    @app.post("/large")
    def large() -> bytes:
        return bytes(100_000)

    @app.post("/stream")
    def stream() -> Response:
        return Response(iter(["one", "two"]))

    @app.post("/fail")
    def fail() -> tuple[str, int]:
        return "not stored", 500

    @app.post("/steps")
    def steps() -> tuple[str, int]:
        step("reserve", str)
        step("charge", str, once=True)
        return "", 500 if current_claim.attempt == 1 else 200

    post(app, "warm-up")
    post(app, "warm-up", "/fail")
    post(app, "warm-up-3", "/steps")
    post(app, "warm-up-2", "/fail")
    state_of(app).engine.store.contend("warm-up", running(), ttl_ms=HOUR, takeover=True)
    return app


@pytest.fixture
def wire(server: Server, app: Flask) -> Iterator[Wire]:
    wire = Wire(server)
    yield wire
    wire.close()


class TestCommands:
    @pytest.mark.parametrize("path", ["/", "/large", "/stream"])
    def test_first_request_costs_two(self, app: Flask, wire: Wire, path: str) -> None:
        """A first request costs its claim and its completion."""
        post(app, path=path)
        assert wire.sent() == Counter(["SET", "EVALSHA"])

    @pytest.mark.parametrize("path", ["/", "/large", "/stream"])
    def test_replay_costs_one(self, app: Flask, wire: Wire, path: str) -> None:
        """A replay costs its claim alone, whatever its size."""
        post(app, path=path)
        wire.sent()
        assert "Idempotent-Replayed" in post(app, path=path).headers
        assert wire.sent() == {"SET": 1}

    @pytest.mark.parametrize("server", ["old redis"], indirect=True)
    def test_old_server_costs_no_more(self, app: Flask, wire: Wire) -> None:
        """A server before Redis 7.0 is asked with a script, and no more often."""
        post(app, "the first finds out")
        wire.sent()
        post(app)
        assert wire.sent() == {"EVALSHA": 2}
        post(app)
        assert wire.sent() == {"EVALSHA": 1}

    def test_no_key_costs_nothing(self, app: Flask, wire: Wire) -> None:
        """A request without a key sends no command."""
        assert post(app, None).status_code == 200
        assert wire.sent() == {}

    def test_reuse_costs_one(self, app: Flask, wire: Wire) -> None:
        """F4: to learn of a reuse costs one command."""
        post(app)
        wire.sent()
        assert post(app, data=b"other").status_code == 422
        assert wire.sent() == {"SET": 1}

    def test_release_costs_two(self, app: Flask, wire: Wire) -> None:
        """A response that is not stored costs its claim and its release."""
        post(app, path="/fail")
        assert wire.sent() == Counter(["SET", "EVALSHA"])

    def test_step_costs_one(self, app: Flask, wire: Wire) -> None:
        """A step costs one command, one with ``once`` two; where the view fails, all one more."""
        post(app, path="/steps")
        assert wire.sent() == Counter(["SET", *["EVALSHA"] * 3, "HGETALL", "EVALSHA"])

    def test_recorded_steps_cost_one(self, app: Flask, wire: Wire) -> None:
        """All the recorded steps of a run cost one command, beside the take-over of a tombstone."""
        post(app, path="/steps")
        wire.sent()
        assert post(app, path="/steps").status_code == 200
        assert wire.sent() == Counter(["SET", "EVALSHA", "HGETALL", "EVALSHA"])

    def test_scripts_are_sent_once(self, app: Flask, wire: Wire, server: Server) -> None:
        """A server that lost its scripts is sent them again, once."""
        server.client.script_flush()
        wire.sent()
        post(app, "a")
        assert wire.sent() == Counter(["SET", "EVALSHA", "EVAL"])
        post(app, "b")
        assert wire.sent() == Counter(["SET", "EVALSHA"])


class TestWaiting:
    """Duplicates that wait in one process, on its one subscription."""

    WAITERS = 8

    @pytest.fixture
    def gate(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> Gate:
        """Opens the view ``/slow``; nobody polls meanwhile, however slow this machine is."""
        monkeypatch.setattr(_timing, "POLL_EVERY", 30.0)
        gate = Gate()
        app._got_first_request = False

        @app.post("/slow/<int:size>")
        def slow(size: int) -> bytes:
            gate()
            return bytes(size)

        return gate

    def test_wait_costs_two_each_and_waking_at_most_one(
        self,
        app: Flask,
        wire: Wire,
        gate: Gate,
        background: Callable[..., Any],
    ) -> None:
        """N waiters cost N claims, one SUBSCRIBE and N more claims; waking costs one GET at most.

        It is read once for all of them, and not even that where the word of the owner in this very
        process comes before the message.
        """
        size, path = 10, "/slow/10"
        first = background(post, app, path=path)
        gate.reached()
        assert wire.sent() == {"SET": 1}
        waiting = [background(post, app, path=path) for _ in range(self.WAITERS)]
        # Each claims, and contends once it is subscribed.
        looks = Counter(["SET", "EVALSHA"] * self.WAITERS)
        before = wire.wait_for("EVALSHA", looks["EVALSHA"])
        assert before == looks + Counter(SUBSCRIBE=1)
        assert wire.sent() == {}
        gate.open()
        answers = [future.result() for future in [first, *waiting]]
        assert [len(answer.data) for answer in answers] == [size] * (self.WAITERS + 1)
        after = wire.sent()
        assert after.pop("UNSUBSCRIBE", 0) <= 1
        assert after.pop("GET", 0) <= 1
        # The owner's completion.
        assert after == {"EVALSHA": 1}
