"""The store on a real server with sealed records: the same contract, and nothing to read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_idempotent.sealing import Sealer
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.testing import InspectableStoreContract
from tests.support.redis_servers import Server


class TestContract(InspectableStoreContract):
    """A store that seals keeps the contract of every store."""

    @pytest.fixture
    def store(self, clean_valkey: Server) -> Iterator[InspectableStore]:
        store = open_store(clean_valkey.url, "tests").sealed_with(Sealer((b"s" * 16,)))
        assert isinstance(store, InspectableStore)
        yield store
        store.close()
