"""Stores on a cluster: on its real nodes, and where a test says who has which slots."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_idempotent import _timing
from flask_idempotent.stores.redis.store import RedisStore
from tests.stores.redis.helpers import KEY, opened
from tests.support.redis_fleets import Cluster
from tests.support.shown_cluster import ShownCluster


@pytest.fixture
def shown(valkey_cluster: Cluster) -> Iterator[ShownCluster]:
    valkey_cluster.flush()
    shown = ShownCluster(valkey_cluster, KEY)
    yield shown
    shown.close()


@pytest.fixture(autouse=True)
def _time_to_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, an answer comes in time to be followed."""
    monkeypatch.setattr(_timing, "MOVE_WITHIN", 10.0)
    monkeypatch.setattr(_timing, "RESEND_WITHIN", 10.0)


@pytest.fixture
def store(shown: ShownCluster) -> Iterator[RedisStore]:
    """The store on two addresses that say what a test wants them to say."""
    with opened(shown.url) as store:
        yield store


@pytest.fixture
def real_store(valkey_cluster: Cluster) -> Iterator[RedisStore]:
    """The store on the real nodes, empty."""
    valkey_cluster.flush()
    with opened(valkey_cluster.url) as store:
        yield store
