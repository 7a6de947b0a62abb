"""Testing: checks that a view is safe to send twice, with pytest or without."""

from flask_idempotent.testing.clock import Clock
from flask_idempotent.testing.contract import InspectableStoreContract, StoreContract
from flask_idempotent.testing.failures import NotIdempotent
from flask_idempotent.testing.fixture import Idempotency, assert_idempotent
from flask_idempotent.testing.states import PreparedKey

__all__ = [
    "Clock",
    "Idempotency",
    "InspectableStoreContract",
    "NotIdempotent",
    "PreparedKey",
    "StoreContract",
    "assert_idempotent",
]
