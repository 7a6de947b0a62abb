"""Testing: is this view safe to send twice? For suites with pytest and without."""

from flask_idempotent.testing.clock import Clock
from flask_idempotent.testing.contract import InspectableStoreContract, StoreContract
from flask_idempotent.testing.failures import NotIdempotent
from flask_idempotent.testing.fixture import Idempotency, assert_idempotent

__all__ = [
    "Clock",
    "Idempotency",
    "InspectableStoreContract",
    "NotIdempotent",
    "StoreContract",
    "assert_idempotent",
]
