"""Bodies on the wire that ``before_request`` has read, whole ones and cut ones."""

from __future__ import annotations

import pytest

from tests.wire.bodies import answer_if_any, each_body
from tests.wire.client import (
    JSON,
    URLENCODED,
    message,
)
from tests.wire.conftest import Wire


class TestReadBefore:
    """A ``before_request`` function has read a body that was cut short."""

    @pytest.mark.parametrize(
        "app",
        [
            "after-form", "after-data", "after-touch", "after-form/limited",
            "after-form/decorated", "after-data/decorated",
        ],
    )  # fmt: skip
    @each_body
    def test_w4_half_a_body(
        self, wire: Wire, app: str, content_type: tuple[str, str], body: bytes
    ) -> None:
        """Half a body is refused and claims nothing, also when somebody read it before."""
        whole = message("POST", wire.path(f"{app}/echo"), [wire.key, content_type], body)
        with wire.connected(whole[:-4]) as connection:
            connection.half_close()
            answer = answer_if_any(wire, connection)
        assert answer is None or answer.status == 400
        assert wire.nothing_happened()
        assert wire.exchange(whole).json["run"] == 1
        assert wire.exchange(whole).replayed

    @pytest.mark.parametrize("app", ["after-form", "after-form/decorated"])
    def test_w4_form_is_ours_to_refuse(self, wire: Wire, app: str) -> None:
        """Where the server delivers half a form without a word, the problem is ours."""
        if not wire.is_gunicorn:
            pytest.skip("only gunicorn does")
        body = b"a=1&b=2"
        whole = message("POST", wire.path(f"{app}/echo"), [wire.key, URLENCODED], body)
        with wire.connected(whole[:-4]) as connection:
            connection.half_close()
            assert connection.answer().problem == (400, "body-incomplete")

    @pytest.mark.parametrize("app", ["after-form", "after-form/decorated"])
    def test_w4_exempt(self, wire: Wire, app: str) -> None:
        """An exempt view and a request without a key are served half a body as without us."""
        if not wire.is_gunicorn:
            pytest.skip("only gunicorn serves half a form")
        for view, headers in (("exempt", [wire.key, URLENCODED]), ("echo", [JSON])):
            whole = message("POST", wire.path(f"{app}/{view}"), headers, b"a=1&b=2")
            with wire.connected(whole[:-4]) as connection:
                connection.half_close()
                assert connection.answer().status == 200
        assert wire.runs == 2
        assert wire.records == 0

    @pytest.mark.parametrize("app", ["after-form", "after-data", "after-touch"])
    @each_body
    def test_f1_fingerprint(
        self, wire: Wire, app: str, content_type: tuple[str, str], body: bytes
    ) -> None:
        """A body that was read before is still distinguished from another."""
        headers = [wire.key, content_type]
        other = body.replace(b"1", b"9").replace(b"\x10\x11", b"\x11\x10")
        assert wire.ask(f"{app}/echo", headers, body).json["run"] == 1
        assert wire.ask(f"{app}/echo", headers, other).problem == (422, "key-reused")
        assert wire.ask(f"{app}/echo", headers, body).replayed
