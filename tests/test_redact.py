"""What may be shown of a key and of a store's URL."""

from __future__ import annotations

import pytest

from flask_idempotent._redact import redacted, without_password


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (None, "-"),
        ("abc", "a…"),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e…"),
        ("12345678", "1234…"),
        ("k", "…"),
    ],
)
def test_redacted(key: str | None, shown: str) -> None:
    """K8: at most the first eight characters are shown, and never more than half of a key."""
    assert redacted(key) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("rediss://user:s3cret@host/2", "rediss://***@host/2"),
        ("unix://:s3cret@/run/redis.sock?db=1", "unix://***@/run/redis.sock?***"),
        ("redis://host/0?password=s3cret", "redis://host/0?***"),
    ],
)
def test_without_password(url: str, shown: str) -> None:
    """A store's URL is shown without its user, password and options."""
    assert without_password(url) == shown
