"""Answers on the wire: what a client gets first, and what a retry gets."""

from __future__ import annotations

import pytest

from tests.wire.client import URLENCODED, Answer, connected, message
from tests.wire.conftest import Wire

#: The body of the "binary" and "file" answers.
BINARY = bytes(range(256)) * 300
#: What a server writes, and what only one of the two answers has.
OWN = {"date", "server", "connection", "keep-alive", "transfer-encoding", "content-length", "via"}


def lasting(answer: Answer) -> list[tuple[str, str]]:
    """The headers of the operation's result."""
    mark = {"idempotent-replayed", "set-cookie"}
    return [header for header in answer.headers if header[0].lower() not in OWN | mark]


def twice(wire: Wire, name: str, method: str = "POST") -> tuple[Answer, Answer]:
    """Send a request and its retry."""
    first, again = (wire.ask(f"answer/{name}", [wire.key], method=method) for _ in range(2))
    assert not first.replayed
    return first, again


@pytest.mark.parametrize(
    "name",
    [
        "text", "json", "empty", "binary", "created", "no-content", "no-content-with-body",
        "see-other", "reset-content", "error", "reason", "latin-1", "links", "cookies", "dated",
        "file", "file-on-disk", "stream", "stream-with-length", "stream-of-nothing",
    ],
)  # fmt: skip
def test_c2_r1_r5_replay(wire: Wire, name: str) -> None:
    """A retry gets the status line, the body and the lasting headers of the first answer."""
    first, again = twice(wire, name)
    assert again.replayed
    assert wire.runs == 1
    assert again.status_line == first.status_line
    assert again.body == first.body
    assert lasting(again) == lasting(first)
    without = wire.ask(f"answer/{name}")
    assert (without.status_line, without.body, without.headers[0]) == (
        first.status_line, first.body, first.headers[0]
    )  # fmt: skip
    assert lasting(without) == lasting(first)


@pytest.mark.parametrize("name", ["text", "binary", "empty", "stream", "file", "dated"])
def test_r1_framing(wire: Wire, name: str) -> None:
    """A replay has one right Content-Length, one new Date, and no chunks."""
    _, again = twice(wire, name)
    assert again.get("Content-Length") == str(len(again.body))
    assert again.get("Transfer-Encoding") is None
    date = again.get("Date")
    assert date is not None
    assert "1970" not in date


@pytest.mark.parametrize("name", ["binary", "file"])
def test_r5_every_byte(wire: Wire, name: str) -> None:
    """A binary body is replayed byte for byte."""
    first, again = twice(wire, name)
    assert first.body == again.body == BINARY


def test_r5_created(wire: Wire) -> None:
    """A 201 is replayed with its Location and its ETag."""
    _, again = twice(wire, "created")
    assert again.status == 201
    assert again.get("ETag") == '"v1"'
    assert (again.get("Location") or "").endswith("/things/1")


def test_r5_after_form(wire: Wire) -> None:
    """The 303 after a form is replayed with its Location."""
    body = f"item=1&__idempotent_key={wire.key[1]}".encode()
    answers = [wire.ask("answer/see-other", [URLENCODED], body) for _ in range(2)]
    assert [answer.status for answer in answers] == [303, 303]
    assert [(answer.get("Location") or "") for answer in answers] == ["/things/1"] * 2
    assert wire.runs == 1


def test_r5_latin_1(wire: Wire) -> None:
    """A header's latin-1 bytes are the same in the replay."""
    first, again = twice(wire, "latin-1")
    assert first.get("X-Name") == again.get("X-Name") == "Jos\xe9"


def test_r1_two_links(wire: Wire) -> None:
    """Two Link headers stay two, in their order."""
    first, again = twice(wire, "links")
    assert first.all("Link") == again.all("Link") == ["</a>; rel=a", "</b>; rel=b"]


def test_r1_cookies(wire: Wire) -> None:
    """Cookies go to the first caller alone."""
    first, again = twice(wire, "cookies")
    assert first.all("Set-Cookie") == ["a=1", "b=2"]
    assert again.all("Set-Cookie") == []
    assert again.body == b"baked"


@pytest.mark.parametrize("name", ["not-modified", "partial"])
def test_r6_not_stored(wire: Wire, name: str) -> None:
    """A 206 and a 304 are passed through and never stored."""
    first, again = twice(wire, name)
    assert (first.status, first.body) == (again.status, again.body)
    assert not again.replayed
    assert wire.runs == 2
    assert wire.records == 0


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("text", "HEAD"),
        ("binary", "HEAD"),
        ("error", "HEAD"),
        ("no-content", "POST"),
        ("no-content-with-body", "POST"),
        ("not-modified", "GET"),
        ("not-modified", "POST"),
    ],
)
def test_e4_no_body(wire: Wire, name: str, method: str) -> None:
    """HEAD, 204 and 304 have no body, at first and again: nothing follows their head."""
    request = message(method, wire.path(f"answer/{name}"), [wire.key, ("Connection", "close")])
    for _ in range(2):
        with connected(wire.port, request) as connection:
            answer = connection.answer(method)
            assert connection.rest() == b""
        if answer.status == 204:
            assert answer.get("Content-Length") is None
            assert answer.get("Transfer-Encoding") is None


@pytest.mark.parametrize("view", ["answer/text", "exempt"])
def test_e4_head_of_a_problem(wire: Wire, view: str) -> None:
    """The answer to a HEAD with a bad key has no body: no method of ours, no problem of ours."""
    request = message("HEAD", wire.path(view), [("Idempotency-Key", ""), ("Connection", "close")])
    with connected(wire.port, request) as connection:
        assert connection.answer("HEAD").status in (200, 405)
        assert connection.rest() == b""


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_r3_stream_as_it_is_produced(wire: Wire, version: str) -> None:
    """A stream's beginning arrives before its end exists; its replay comes in one piece."""
    request = message("POST", wire.path("stream"), [wire.key], b"", version=version)
    with connected(wire.port, request) as connection:
        answer = connection.head()
        assert answer.get("Content-Length") is None
        assert answer.chunked or version == "1.0"
        begin = connection.chunk() if answer.chunked else connection.take(7)
        assert begin == b"run 1, "
        wire.reached()
        wire.open()
        end = connection.chunk() if answer.chunked else connection.rest()
        assert end == b"end"
    assert wire.completed() == "kept"
    again = wire.ask("stream", [wire.key], version=version)
    assert again.replayed
    assert again.get("Content-Length") == "10"
    assert again.body == b"run 1, end"


def test_r3_stream_is_closed(wire: Wire) -> None:
    """What a view left to be done at a response's end is done, once."""
    with wire.connected(message("POST", wire.path("stream"), [wire.key], b"")) as connection:
        wire.reached()
        wire.open()
        connection.answer()
    wire.closed()
    assert wire.completed() == "kept"
    assert wire.ask("stream", [wire.key]).replayed
    assert wire.closings == 0
