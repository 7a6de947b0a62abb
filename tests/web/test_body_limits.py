"""Limits of an application for bodies and forms, and views that raise them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Request, request

from flask_idempotent import webhooks
from tests.conftest import MakeApp
from tests.support.clients import WayIn, post, problem
from tests.support.request_bodies import (
    KEY,
    MULTIPART,
    URLENCODED,
    chunked,
    ending,
    form_of,
    send,
    warnings,
    with_length,
)

LIMITS_OF_REQUESTS = pytest.mark.skipif(
    Request.max_content_length.fset is None, reason="Flask 3.0 has no limits for a single request"
)


class TestLimits:
    """Limits of the application, and views that raise them."""

    FORM = b"a=" + b"x" * 50 + b"&b=1"

    @LIMITS_OF_REQUESTS
    @pytest.mark.parametrize("framing", [with_length, ending, chunked])
    def test_w7_raised_by_the_view(
        self,
        way: WayIn,
        framing: Callable[[bytes], dict[str, Any]],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """W7: a view that raises its own limit reads the whole form, and a warning says that the
        key was not searched for to the end."""
        app = way.app(config={"MAX_CONTENT_LENGTH": 20})

        @app.post("/")
        @way
        def view() -> Any:
            request.max_content_length = 1000
            return request.form

        answer = post(
            app, None, environ_overrides={"CONTENT_TYPE": URLENCODED, **framing(self.FORM)}
        )
        assert answer.json == {"a": "x" * 50, "b": "1"}
        [warning] = warnings(caplog)
        assert "longer than 20 bytes" in warning

    @pytest.mark.parametrize("framing", [with_length, ending, chunked])
    def test_w7_refused_by_the_view(
        self,
        way: WayIn,
        framing: Callable[[bytes], dict[str, Any]],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """W7: nothing is logged where the view refuses such a form, as it does without us."""
        app = way.app(config={"MAX_CONTENT_LENGTH": 20})
        app.post("/")(way(lambda: b"".join(iter(lambda: request.stream.read(7), b""))))
        answer = post(
            app, None, environ_overrides={"CONTENT_TYPE": URLENCODED, **framing(self.FORM)}
        )
        assert answer.status_code == 413
        assert warnings(caplog) == []

    @LIMITS_OF_REQUESTS
    def test_w7_raised_before(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """W7: a limit raised in ``before_request`` is the search's limit too, so the key counts."""
        app = way.app(config={"MAX_CONTENT_LENGTH": 20})

        @app.before_request
        def raise_limit() -> None:
            request.max_content_length = 1000

        app.post("/")(way(lambda: request.form))
        form = self.FORM + b"&__idempotent_key=k"
        assert send(app, form, URLENCODED).json["b"] == "1"
        assert send(app, form, URLENCODED).headers["Idempotent-Replayed"] == "true"
        assert warnings(caplog) == []

    def test_w4_key_before_the_limit(self, way: WayIn) -> None:
        """W4: a form with a key that is too large is refused, and nothing is claimed."""
        app = way.app(config={"MAX_CONTENT_LENGTH": 20})
        app.post("/")(way(lambda: "done"))
        assert send(app, b"__idempotent_key=k&" + self.FORM, URLENCODED).status_code == 413

    @pytest.mark.parametrize("limit", ["MAX_FORM_PARTS", "MAX_FORM_MEMORY_SIZE"])
    @pytest.mark.parametrize("key", ["k", None])
    def test_w7_bytes_have_no_limits_of_forms(
        self, way: WayIn, limit: str, key: str | None
    ) -> None:
        """W7: a view that reads a form's bytes itself meets no limit for forms."""
        app = way.app(config={limit: 1})
        app.post("/")(way(lambda: request.get_data()))
        body = form_of("one", "two", "three").replace(KEY.encode(), b"other")
        assert send(app, body, MULTIPART, key).data == body

    @LIMITS_OF_REQUESTS
    def test_w7_parts(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """W7: a key after the last part that is searched is not found, and a warning says so."""
        app = way.app(config={"MAX_FORM_PARTS": 2})
        app.post("/")(way(lambda: "done"))
        for _ in range(2):
            assert "Idempotent-Replayed" not in send(app, form_of("1", "2"), MULTIPART).headers
        assert ["more than 2 parts" in warning for warning in warnings(caplog)] == [True, True]
        assert send(app, form_of("1"), MULTIPART).text == "done"
        assert send(app, form_of("1"), MULTIPART).headers["Idempotent-Replayed"] == "true"

    def test_f8_key_function_reads_half(self, way: WayIn) -> None:
        """F8: Werkzeug cuts a chunked body at the limit without a word; it is refused all the
        same, so that no two payloads share a fingerprint."""

        def find(request: Request) -> str | None:
            request.get_data()
            return request.headers.get("Idempotency-Key")

        app = way.app(config={"MAX_CONTENT_LENGTH": 10}, key=find)
        app.post("/")(way(lambda: request.get_data()))
        for body, status in ((b"x" * 11, 413), (b"x" * 10, 200)):
            environ = {"CONTENT_TYPE": "text/plain", **chunked(body)}
            assert post(app, "k", environ_overrides=environ).status_code == status

    def test_w4_key_in_a_body_that_is_cut_off(self, way: WayIn) -> None:
        """W4: a chunked body over the limit gets 413 where the key would be in it, too."""
        app = way.app(config={"MAX_CONTENT_LENGTH": 20}, **webhooks.stripe)
        app.post("/")(way(lambda: "done"))
        for body, status in ((b'{"id": "evt_12345678"}', 413), (b'{"id": "evt_123456"}', 200)):
            environ = {"CONTENT_TYPE": "application/json", **chunked(body)}
            assert post(app, None, environ_overrides=environ).status_code == status

    def test_w4_key_function_meets_the_end(self, way: WayIn) -> None:
        """W4: half a body is the same problem where the application's function reads it."""

        def find(request: Request) -> str | None:
            request.get_data()
            return request.headers.get("Idempotency-Key")

        app = way.app(key=find)
        app.post("/")(way(lambda: "done"))
        answer = send(app, b"half", "text/plain", "k", CONTENT_LENGTH="8")
        assert problem(answer) == (400, "body-incomplete")
        assert answer.json["idempotency_key"] == "k"

    def test_f3_values_and_data(self, make_app: MakeApp) -> None:
        """F3: a form that was parsed and then read again, without effect, is complete."""
        app = make_app()

        @app.before_request
        def read() -> None:
            assert request.values
            assert request.get_data(cache=False) == b""

        app.post("/")(lambda: request.form)
        assert send(app, b"a=1", URLENCODED, "k").json == {"a": "1"}
        assert problem(send(app, b"a=2", URLENCODED, "k")) == (422, "key-reused")
