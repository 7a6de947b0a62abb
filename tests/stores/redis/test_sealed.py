"""The store on a real server with sealed records: the same contract, and nothing to read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_idempotent import _timing
from flask_idempotent.errors import TooFewReplicas
from flask_idempotent.sealing import Sealer
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.testing import InspectableStoreContract
from tests.stores.harness import HOUR, running
from tests.support.redis_servers import Server


@pytest.fixture
def store(clean_valkey: Server) -> Iterator[InspectableStore]:
    """A store on an empty server, which seals."""
    store = open_store(clean_valkey.url, "tests").sealed_with(Sealer((b"s" * 16,)))
    assert isinstance(store, InspectableStore)
    yield store
    store.close()


class TestContract(InspectableStoreContract):
    """A store that seals keeps the contract of every store."""


def test_confirmed_by_replicas(
    store: InspectableStore, clean_valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What replicas are to confirm is sealed too."""
    monkeypatch.setattr(_timing, "REPLICAS_TIMEOUT", 0.001)
    with pytest.raises(TooFewReplicas):
        store.confirmed_by(1).claim("a key", running(), ttl_ms=HOUR)
    record = clean_valkey.client.get("a key")
    assert isinstance(record, bytes)
    assert running().endpoint.encode() not in record
