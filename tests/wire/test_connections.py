"""Connections: ``Expect: 100-continue``, and what follows a problem."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.wire.bodies import LIMIT, answer_if_any, each_body, seen
from tests.wire.client import (
    BINARY,
    CHUNKED,
    JSON,
    URLENCODED,
    chunks,
    head,
    message,
)
from tests.wire.conftest import Wire


class TestExpect:
    """``Expect: 100-continue``: the client waits before it sends its body."""

    EXPECT = ("Expect", "100-continue")

    @each_body
    def test_h10_body_after_100(
        self, wire: Wire, content_type: tuple[str, str], body: bytes
    ) -> None:
        """The client gets its 100, sends its body and is served; so is its retry."""
        headers = [wire.key, content_type, self.EXPECT, ("Content-Length", str(len(body)))]
        for _ in range(2):
            with wire.connected(head("POST", wire.path("echo"), headers)) as connection:
                assert connection.head().status == 100
                connection.send(body)
                answer = connection.answer()
                assert seen(answer) == body
        assert answer.replayed

    def test_h10_early_answer(self, wire: Wire) -> None:
        """A bad key is refused without its body, but by a server that reads bodies first."""
        headers = [("Idempotency-Key", ""), JSON, self.EXPECT, ("Content-Length", "5")]
        with wire.connected(head("POST", wire.path("echo"), headers)) as connection:
            if wire.reads_all_first:
                assert connection.head().status == 100
                connection.send(b"12345")
            assert connection.answer().problem == (400, "key-invalid")
        assert wire.nothing_happened()

    def test_h10_too_large(self, wire: Wire) -> None:
        """A body over the limit is refused before it is sent, but by such a server."""
        headers = [wire.key, BINARY, self.EXPECT, ("Content-Length", str(LIMIT + 1))]
        with wire.connected(head("POST", wire.path("limited/echo"), headers)) as connection:
            if wire.reads_all_first:
                assert connection.head().status == 100
                connection.send(b"x" * (LIMIT + 1))
            assert connection.answer().status == 413
        assert wire.nothing_happened()

    def test_w4_gone_after_100(self, wire: Wire) -> None:
        """A client that goes away after its 100 has claimed nothing."""
        start = head(
            "POST",
            wire.path("echo"),
            [wire.key, JSON, self.EXPECT, ("Content-Length", "5")],
        )
        with wire.connected(start) as connection:
            assert connection.head().status == 100
            connection.half_close()
            answer = answer_if_any(wire, connection)
            assert answer is None or answer.problem == (400, "body-incomplete")
        assert wire.nothing_happened()
        with wire.connected(start) as connection:
            assert connection.head().status == 100
            connection.send(b"12345")
            assert seen(connection.answer()) == b"12345"


class TestNextRequest:
    """What follows a problem on the same connection."""

    #: A body that would be another request, were it not read or the connection not closed.
    SMUGGLED = b"POST /echo/smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"

    @pytest.fixture(params=["in-turn", "pipelined"])
    def pipelined(self, request: pytest.FixtureRequest) -> bool:
        """Whether the client waits for an answer before it sends the next request."""
        return bool(request.param == "pipelined")

    def followed(self, wire: Wire, request: bytes, status: int, pipelined: bool) -> None:
        """The connection takes the next request, or is closed; never anything else."""
        following = message("POST", "/alive", [("Connection", "close")], b"")
        with wire.connected(request + (following if pipelined else b"")) as connection:
            first = connection.answer()
            assert first.status == status
            if first.stays_open and not pipelined:
                connection.send(following)
            with suppress(OSError):
                # The server may have closed.
                connection.half_close()
            rest = connection.rest()
        if rest:
            assert first.stays_open
            assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
            assert rest.endswith(b"\r\n\r\nalive")
            assert rest.count(b"HTTP/1.1") == 1

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize(
        ("view", "key", "content_type", "status"),
        [
            pytest.param("echo", "", BINARY, 400, id="key-invalid"),
            pytest.param("echo", "", URLENCODED, 400, id="key-invalid-form"),
            pytest.param("required", None, BINARY, 400, id="key-missing"),
            pytest.param("limited/echo", "k", BINARY, 413, id="too-large"),
            pytest.param("slash", "k", BINARY, 308, id="redirect"),
            pytest.param("nowhere", "k", BINARY, 404, id="not-found"),
            pytest.param("echo", "k", BINARY, 200, id="served"),
        ],
    )
    def test_m9_after(
        self,
        wire: Wire,
        pipelined: bool,
        framing: str,
        view: str,
        key: str | None,
        content_type: tuple[str, str],
        status: int,
    ) -> None:
        """After a problem the connection is usable or closed; no body is taken for a request."""
        headers = [content_type] + ([] if key is None else [("Idempotency-Key", key)])
        body = self.SMUGGLED
        if status == 413:
            body += b"x" * (LIMIT + 1 - len(body))
        if framing == "length":
            request = message("POST", wire.path(view), headers, body)
        else:
            request = head("POST", wire.path(view), [*headers, CHUNKED]) + chunks(body)
        self.followed(wire, request, status, pipelined)
        assert wire.runs == (1 if status == 200 else 0)

    def test_m9_after_409(self, wire: Wire, pipelined: bool) -> None:
        """So it is after 409 in-progress."""
        request = message("POST", wire.path("busy"), [wire.key, BINARY], self.SMUGGLED)
        with wire.connected(request) as owner:
            wire.reached()
            self.followed(wire, request, 409, pipelined)
            wire.open()
            assert owner.answer().status == 200

    def test_m9_after_422(self, wire: Wire, pipelined: bool) -> None:
        """So it is after 422 key-reused."""
        wire.ask("echo", [wire.key, BINARY], b"other")
        request = message("POST", wire.path("echo"), [wire.key, BINARY], self.SMUGGLED)
        self.followed(wire, request, 422, pipelined)
        assert wire.runs == 1
