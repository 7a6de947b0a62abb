"""Replays in an application with a response class of its own."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from flask import Response as FlaskResponse
from werkzeug.test import Client
from werkzeug.wrappers import Response

from tests.conftest import MakeApp

KEY = {"Idempotency-Key": "k"}


class Demanding(FlaskResponse):
    """A class whose constructor needs an argument that Flask does not pass."""

    def __init__(self, *args: Any, tenant: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.headers["X-Tenant"] = tenant


class Adding(FlaskResponse):
    """A class whose constructor adds headers."""

    numbers = count(1)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.headers.add("X-Number", str(next(self.numbers)))
        self.headers.add("Link", "</docs>; rel=help")


class Typed(FlaskResponse):
    """A class with another default type, whose constructor changes a type."""

    default_mimetype = "application/json"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "text/html" in self.headers.get("Content-Type", ""):
            self.headers["Content-Type"] = "text/html; charset=iso-8859-1"


class TestResponseClasses:
    """R8: a replay does not call the constructor of the application's response class.

    Flask's own test client would: these send with Werkzeug's.
    """

    @pytest.mark.parametrize("cls", [Demanding, Adding, Typed])
    @pytest.mark.parametrize(
        "headers", [{}, {"Content-Type": "text/csv"}, {"Content-Type": "text/html"}]
    )
    def test_r8_replay_is_equal(
        self, make_app: MakeApp, cls: type[Response], headers: dict[str, str]
    ) -> None:
        """R8: a replay has the class and the headers of the first response, and no more."""
        app = make_app()
        app.response_class = cls  # type: ignore[assignment]
        seen: list[type] = []
        app.after_request(lambda response: seen.append(type(response)) or response)

        @app.post("/")
        def view() -> Response:
            response = cls("text", **({"tenant": "a"} if cls is Demanding else {}))
            response.headers.extend(headers)
            return response

        first, retry = (Client(app).post("/", headers=KEY) for _ in range(2))
        assert retry.headers.pop("Idempotent-Replayed") == "true"
        assert sorted(retry.headers) == sorted(first.headers)
        assert (retry.status, retry.data) == (first.status, first.data)
        assert seen == [cls, cls]

    @pytest.mark.parametrize("cls", [Adding, Typed])
    def test_r8_no_type(self, make_app: MakeApp, cls: type[Response]) -> None:
        """R8: a response without a type has none in its replay, whatever the class's default."""
        app = make_app()
        app.response_class = cls  # type: ignore[assignment]

        @app.post("/")
        def view() -> Response:
            response = cls("text")
            response.headers.remove("Content-Type")
            return response

        for _ in range(2):
            assert "Content-Type" not in Client(app).post("/", headers=KEY).headers
