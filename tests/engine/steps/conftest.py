"""The engine of the tests of steps."""

from __future__ import annotations

import pytest

from flask_idempotent.engine.engine import Engine


@pytest.fixture
def engine(threadless: Engine) -> Engine:
    """An engine whose rounds are the test's to run."""
    return threadless
