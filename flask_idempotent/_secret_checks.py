"""Checks of secrets, whose errors never show a value."""

from __future__ import annotations

from typing import Any

from flask_idempotent.errors import SettingsError
from flask_idempotent.sealing import check_installed

#: The shortest secret, in bytes: 128 bits, if they are random.
SHORTEST_SECRET = 16


def secrets(name: str, value: Any) -> tuple[bytes | None, ...]:
    """Check for a tuple or list of secrets, with at most one None, whose final form is bytes."""
    if not isinstance(value, tuple | list):
        raise SettingsError(
            f"{name} must be a tuple or list of secrets, not a value of type "
            f"{type(value).__name__}. For example: ('the new secret', 'the old one')"
        )
    checked = tuple(
        None if secret is None else _secret(name, secret, f" in secret {number}")
        for number, secret in enumerate(value, 1)
    )
    if not checked:
        return ()
    if checked.count(None) > 1 or set(checked) == {None}:
        raise SettingsError(
            f"{name} must have at least one secret, and None at most once, which stands for "
            "records without a seal. For example: (None, 'the new secret')"
        )
    check_installed(name)
    return checked


def name_secret(name: str, value: Any) -> bytes | None:
    """Check for a secret or None, whose final form is bytes."""
    return None if value is None else _secret(name, value, "")


def _secret(name: str, secret: Any, where: str) -> bytes:
    if not isinstance(secret, str | bytes):
        raise SettingsError(
            f"{name} must have a string or bytes{where}, not a value of type "
            f"{type(secret).__name__}. {_HOW_TO_MAKE}"
        )
    encoded = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
    if len(encoded) < SHORTEST_SECRET:
        raise SettingsError(
            f"{name} must have at least {SHORTEST_SECRET} bytes{where}, not {len(encoded)}. "
            f"{_HOW_TO_MAKE}"
        )
    return encoded


_HOW_TO_MAKE = "This command makes one: python -c 'import secrets; print(secrets.token_hex())'"
