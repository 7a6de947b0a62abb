"""A client that keeps its cookies, and what it asks of an answer."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse


def send(
    client: FlaskClient, path: str = "/", key: str | None = "key-one", **options: Any
) -> TestResponse:
    """Send a POST with a key, and with the cookies that the client has."""
    headers = dict(options.pop("headers", {}))
    if key is not None:
        headers["Idempotency-Key"] = key
    method = options.pop("method", "POST")
    # Read whole: a stream that nobody reads does not end, and its key stays in progress.
    return client.open(path, method=method, headers=headers, buffered=True, **options)


def replayed(answer: TestResponse) -> bool:
    """Say whether an answer is a replay."""
    return answer.headers.get("Idempotent-Replayed") == "true"


def summary(answer: TestResponse) -> tuple[int, str, bool]:
    """The status and text of an answer, and whether it is a replay."""
    return answer.status_code, answer.text, replayed(answer)
