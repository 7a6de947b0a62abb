"""Fixtures: a store that fails when told, and an engine over it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_idempotent.engine.engine import Engine
from flask_idempotent.stores.base import Store
from tests.engine.harness import Shaky, without_thread


@pytest.fixture
def shaky() -> Shaky:
    return Shaky()


@pytest.fixture
def engine(shaky: Shaky) -> Iterator[Engine]:
    engine = Engine(shaky, "the app")
    yield engine
    engine.close()


@pytest.fixture
def real_engine(store: Store) -> Iterator[Engine]:
    """An engine over each of the stores."""
    engine = Engine(store, "the app")
    yield engine
    engine.close()


@pytest.fixture
def threadless(shaky: Shaky) -> Iterator[Engine]:
    """An engine whose worker starts no thread."""
    engine = Engine(shaky, None)
    without_thread(engine.worker)
    yield engine
    engine.close()
