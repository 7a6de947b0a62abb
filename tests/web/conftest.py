"""Fixtures of the web layer's tests."""

from __future__ import annotations

import pytest

from tests.conftest import MakeApp
from tests.support.shop import Shop


@pytest.fixture
def shop(make_app: MakeApp) -> Shop:
    """An application with one view in a transaction, its store and its database."""
    return Shop(make_app)
