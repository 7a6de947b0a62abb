"""Exceptions: one base, and what each knows of the failure."""

from __future__ import annotations

import pytest

from flask_idempotent import errors
from flask_idempotent.errors import IdempotentError, SettingsError, StoreError

ALL = [
    value for value in vars(errors).values() if isinstance(value, type) and value.__module__ ==
    errors.__name__
]  # fmt: skip


class TestTree:
    @pytest.mark.parametrize("kind", ALL)
    def test_one_base(self, kind: type[Exception]) -> None:
        """Every exception of the package can be caught as IdempotentError."""
        assert issubclass(kind, IdempotentError)
        assert kind.__doc__

    def test_settings_error_is_a_value_error(self) -> None:
        """A wrong setting is a wrong value."""
        assert issubclass(SettingsError, ValueError)


class TestStoreError:
    @pytest.mark.parametrize(
        ("error", "sent"),
        [
            (StoreError("lost"), True),
            (errors.StoreUnavailable("no connection", sent=False), False),
            (errors.StoreUnavailable("no reply"), True),
            (errors.WriteRefused("OOM"), False),
        ],
    )
    def test_sent(self, error: StoreError, sent: bool) -> None:
        """A store's error says whether its command may have been sent; by default it may have."""
        assert error.sent is sent
        assert isinstance(error, StoreError)
        assert str(error)
