"""Routing on the wire: what never reaches a view is answered as without a key."""

from __future__ import annotations

import pytest

from tests.wire.client import JSON, Headers
from tests.wire.conftest import Wire

BAD_KEY = ("Idempotency-Key", 'not"a key')


@pytest.fixture(params=["good", "bad"])
def any_key(request: pytest.FixtureRequest, wire: Wire) -> tuple[str, str]:
    """A key that can be used and one that cannot."""
    return wire.key if request.param == "good" else BAD_KEY


def test_w2_redirect_to_slash(wire: Wire) -> None:
    """A client that follows the 308 to the trailing slash with its key runs once."""
    headers = [wire.key, JSON]
    for _ in range(2):
        redirect = wire.ask("slash", headers, b'{"a": 1}')
        assert redirect.status == 308
        location = redirect.get("Location")
        assert location is not None
        assert location.endswith(f"/slash/{wire.case}/")
        answer = wire.ask("slash", headers, b'{"a": 1}', query="/")
        assert answer.json["run"] == 1
    assert answer.replayed


def test_w2_redirect_claims_nothing(wire: Wire, any_key: tuple[str, str]) -> None:
    """The 308 itself claims nothing and looks at no key."""
    assert wire.ask("slash", [any_key]).status == 308
    assert wire.nothing_happened()


def test_w2_not_found(wire: Wire, any_key: tuple[str, str]) -> None:
    """An unknown path is 404, whatever the key, and claims nothing."""
    assert wire.ask("nowhere", [any_key]).status == 404
    assert wire.nothing_happened()


def test_w2_method_not_allowed(wire: Wire, any_key: tuple[str, str]) -> None:
    """A wrong method is 405 with its Allow, whatever the key, and claims nothing."""
    answer = wire.ask("slow", [any_key], method="PUT")
    assert answer.status == 405
    assert sorted((answer.get("Allow") or "").split(", ")) == ["OPTIONS", "POST"]
    assert wire.nothing_happened()


def test_w2_preflight(wire: Wire, any_key: tuple[str, str]) -> None:
    """A CORS preflight is answered as on an exempt view, whatever else it carries."""
    headers: Headers = [
        ("Origin", "https://shop.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "idempotency-key"),
    ]

    def preflight(view: str, *more: tuple[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        answer = wire.ask(view, [*headers, *more], None, method="OPTIONS")
        steady = [header for header in answer.headers if header[0].lower() != "date"]
        return answer.status, sorted(steady), answer.body

    assert preflight("exempt") == preflight("echo-post") == preflight("echo-post", any_key)
    assert wire.nothing_happened()


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_w1_untracked(wire: Wire, any_key: tuple[str, str], method: str) -> None:
    """A method that is not tracked is served as without a key."""
    assert wire.ask("answer/text", [any_key], None, method=method).status == 200
    assert wire.records == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_w1_tracked(wire: Wire, method: str) -> None:
    """Every other method runs once."""
    answers = [wire.ask("echo", [wire.key], method=method) for _ in range(2)]
    assert [answer.json["run"] for answer in answers] == [1, 1]
    assert answers[1].replayed


def test_f5_other_method(wire: Wire) -> None:
    """The key of a PUT cannot be used for a POST."""
    assert wire.ask("echo", [wire.key], method="PUT").status == 200
    assert wire.ask("echo", [wire.key]).problem == (422, "key-reused")
