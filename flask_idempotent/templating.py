"""Templates: a fresh key for each form that is rendered."""

from __future__ import annotations

import secrets

from flask import current_app
from markupsafe import Markup

from flask_idempotent.state import state_of


def new_key() -> str:
    """Make a key of 128 random bits, as 32 hexadecimal digits."""
    return secrets.token_hex(16)


def field_name() -> str:
    """The name of the form field that carries the key (``IDEMPOTENT_FIELD``)."""
    return state_of(current_app._get_current_object()).settings().field  # type: ignore[attr-defined]


def hidden_input(key: str) -> Markup:
    """Write the hidden field that carries a key."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(field_name(), key)
