"""Fixtures: a store that fails when told, and an engine over it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_idempotent.engine.engine import Engine
from tests.engine.harness import Shaky


@pytest.fixture
def shaky() -> Shaky:
    return Shaky()


@pytest.fixture
def engine(shaky: Shaky) -> Iterator[Engine]:
    engine = Engine(shaky, "the app")
    yield engine
    engine.close()
