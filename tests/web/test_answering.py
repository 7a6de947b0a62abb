"""Answering: what every problem has of its request and its application."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.clients import WayIn, recorded

BASE = "https://shop.example/problems/"
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("options", "slug", "key"),
    [
        pytest.param({"headers": {}}, "key-missing", None, id="key missing"),
        pytest.param({"headers": {"Idempotency-Key": ""}}, "key-invalid", None, id="key invalid"),
        pytest.param(
            {
                "headers": {"Idempotency-Key": "key-one"},
                "environ_overrides": {"CONTENT_LENGTH": "9"},
            },
            "body-incomplete",
            "key-one",
            id="body incomplete",
        ),
    ],
)
def test_e1_base_and_key(way: WayIn, options: dict[str, Any], slug: str, key: str | None) -> None:
    """E1: every type begins with the application's base, and every problem has the client's key."""
    app = way.app(config={"IDEMPOTENT_PROBLEM_BASE": BASE}, required=True)
    app.post("/")(way(lambda: "ran"))
    with recorded(app) as events:
        answer = app.test_client().post("/", data=b"1234", **options).get_json()
    assert (answer["type"], answer["idempotency_key"]) == (BASE + slug, key)
    assert [(name, data["problem"], data["key"]) for name, data in events] == [
        ("rejected", slug, key)
    ]


def test_e1_function_that_finds_the_key(way: WayIn) -> None:
    """E1: a key that an application's function found is refused in the same way."""
    app = way.app(config={"IDEMPOTENT_PROBLEM_BASE": BASE}, key=lambda request: " ")
    app.post("/")(way(lambda: "ran"))
    answer = app.test_client().post("/").get_json()
    assert answer["type"] == BASE + "key-invalid"
