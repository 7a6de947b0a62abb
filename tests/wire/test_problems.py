"""Problems on the wire: duplicates, reused keys, and records that cannot be read."""

from __future__ import annotations

import functools
import zlib
from typing import Any

import pytest

from flask_idempotent.records import CompressedBody
from tests.wire.client import JSON, message
from tests.wire.conftest import Wire


def test_c1_retry_after(wire: Wire) -> None:
    """A duplicate that does not wait gets 409 and a second or two to try again."""
    request = message("POST", wire.path("busy"), [wire.key], b"")
    with wire.connected(request) as owner:
        wire.reached()
        duplicate = wire.exchange(request)
        assert duplicate.problem == (409, "in-progress")
        assert duplicate.get("Retry-After") in ("1", "2")
        assert duplicate.get("Cache-Control") == "no-store"
        wire.open()
        assert owner.answer().json == {"run": 1}
    assert wire.exchange(request).replayed


@pytest.mark.parametrize("reads", ["running", "completed"])
def test_f4_reused(wire: Wire, reads: str) -> None:
    """Another payload gets 422 without Retry-After, while the first runs and after it."""
    first = message("POST", wire.path("busy"), [wire.key, JSON], b"1")
    other = message("POST", wire.path("busy"), [wire.key, JSON], b"2")
    with wire.connected(first) as owner:
        wire.reached()
        if reads == "completed":
            wire.open()
            assert owner.answer().status == 200
        answer = wire.exchange(other)
        assert answer.problem == (422, "key-reused")
        assert answer.get("Retry-After") is None
        if reads == "running":
            wire.open()
            assert owner.answer().status == 200
    assert wire.exchange(first).json == {"run": 1}
    assert wire.runs == 1


def test_c1_waiter(wire: Wire) -> None:
    """A duplicate that waits gets the first one's answer, in any of the server's processes."""
    request = message("POST", wire.path("slow"), [wire.key], b"")
    with wire.connected(request) as owner:
        wire.reached()
        with wire.connected(request) as duplicate:
            wire.waiters(1)
            wire.open()
            assert owner.answer().json == {"run": 1}
            again = duplicate.answer()
    assert again.json == {"run": 1}
    assert again.replayed


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_e1_problems_on_the_wire(wire: Wire, accept: str) -> None:
    """A problem has the length it says, its type by Accept, and the application's own headers."""
    answer = wire.ask("echo", [("Idempotency-Key", ""), ("Accept", accept)])
    assert answer.status == 400
    assert answer.get("Content-Length") == str(len(answer.body))
    expected = "text/html; charset=utf-8" if accept == "text/html" else "application/problem+json"
    assert answer.get("Content-Type") == expected
    assert answer.get("Access-Control-Allow-Origin") == "*"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"status": "2" * 5000 + " OK"}, id="digits"),
        pytest.param({"status": 100}, id="interim"),
        pytest.param({"status": "200 O\r\nX-Injected: 1"}, id="reason-of-two-lines"),
        pytest.param({"status": "200 \u9375"}, id="reason-beyond-latin-1"),
        pytest.param({"headers": (("X", "1\r\nX-Injected: 1"),)}, id="header-of-two-lines"),
        pytest.param({"headers": (("X: 1\r\nX-Injected", "1"),)}, id="name-of-two-lines"),
        pytest.param({"headers": (("X", "\u9375"),)}, id="header-beyond-latin-1"),
        pytest.param({"headers": (("Location", "http://["),)}, id="location"),
        pytest.param({"time": float("-inf")}, id="time"),
    ],
)
def test_r12_unreadable(wire: Wire, changes: dict[str, Any]) -> None:
    """What cannot be sent is answered 503, and the view does not run again."""
    check_unreadable(wire, changes)


@pytest.mark.parametrize("size", [2**26, 10], ids=["large", "larger-than-announced"])
def test_r12_swelling_body(wire: Wire, size: int) -> None:
    """So is a body of a few kibibytes that is 64 mebibytes when it is decompressed."""
    check_unreadable(wire, {"body": CompressedBody(swelling(), size)})


@functools.cache
def swelling() -> bytes:
    """Compressing this takes a fifth of a second, so it is not done while tests are collected."""
    return zlib.compress(bytes(2**26), 9)


def check_unreadable(wire: Wire, changes: dict[str, Any]) -> None:
    """Change the record, and check what the retry gets."""
    wire.ask("answer/text", [wire.key])
    wire.rewrite(changes)
    answer = wire.ask("answer/text", [wire.key])
    assert answer.problem == (503, "record-unreadable")
    assert answer.get("X-Injected") is None
    assert wire.runs == 1


def test_r12_headers_that_are_never_kept(wire: Wire) -> None:
    """A header that is not kept is not sent either: cookies, and what frames a message."""
    first = wire.ask("answer/text", [wire.key])
    headers = (
        ("Content-Type", "text/html; charset=utf-8"), ("Set-Cookie", "session=theirs"),
        ("Content-Length", "0"), ("Content-Length", "5000"), ("Transfer-Encoding", "chunked"),
        ("Connection", "upgrade"), ("Upgrade", "websocket"),
    )  # fmt: skip
    wire.rewrite({"headers": headers})
    again = wire.ask("answer/text", [wire.key])
    assert again.replayed
    assert (again.status, again.body) == (first.status, first.body)
    assert again.all("Content-Length") == [str(len(first.body))]
    for name in ("Set-Cookie", "Transfer-Encoding", "Upgrade"):
        assert again.get(name) is None
    assert wire.runs == 1


def test_r12_another_kind_of_value(wire: Wire) -> None:
    """A list where the record should be is answered 503, and stays."""
    wire.ask("answer/text", [wire.key])
    wire.replace_by_list()
    answer = wire.ask("answer/text", [wire.key])
    assert answer.problem == (503, "record-unreadable")
    assert (wire.runs, wire.records) == (1, 1)


def test_answer_that_cannot_be_sent(wire: Wire) -> None:
    """A header that no server may send costs the retry the response, and never a second run."""
    wire.ask("answer/unsendable", [wire.key])
    answer = wire.ask("answer/unsendable", [wire.key])
    assert answer.problem == (409, "response-not-kept")
    assert wire.runs == 1
