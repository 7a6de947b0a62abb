"""The contract of a store, over every store there is."""

from __future__ import annotations

from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.testing import InspectableStoreContract


class TestContract(InspectableStoreContract):
    """Each store in turn: see the fixture ``store``."""


class TestFacts:
    def test_names_and_values(self, store: InspectableStore) -> None:
        """A server reports its settings by Redis's names; memory has nothing to report."""
        for facts in store.facts():
            assert (facts["transport"], facts["save"], facts["role"]) == ("loopback", "", "master")
            assert facts["maxmemory_policy"] == "noeviction"
