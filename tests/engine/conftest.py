"""Fixtures: a store that fails as a test says, and engines over it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_idempotent.engine.engine import Engine
from flask_idempotent.stores.base import Store
from tests.support.engines import without_thread
from tests.support.faulty_store import FaultyStore


@pytest.fixture
def faulty() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def engine(faulty: FaultyStore) -> Iterator[Engine]:
    engine = Engine(faulty, "the app")
    yield engine
    engine.close()


@pytest.fixture
def real_engine(store: Store) -> Iterator[Engine]:
    """An engine over each of the stores."""
    engine = Engine(store, "the app")
    yield engine
    engine.close()


@pytest.fixture
def threadless(faulty: FaultyStore) -> Iterator[Engine]:
    """An engine whose worker starts no thread."""
    engine = Engine(faulty, None)
    without_thread(engine.worker)
    yield engine
    engine.close()
