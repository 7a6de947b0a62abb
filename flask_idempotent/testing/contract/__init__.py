"""The contract of a store as tests, for authors of stores.

A store's author subclasses a contract in a test file and gives its tests a fixture ``store``::

    from flask_idempotent.testing import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            store = MyStore(tmp_path / "records")
            yield store
            store.close()

Each test gets an empty store. The tests wait for milliseconds at most, by the store's own clock.
"""

from flask_idempotent.testing.contract.claims import (
    ClaimContract,
    ContendContract,
    CorrectionContract,
)
from flask_idempotent.testing.contract.completions import (
    CompleteContract,
    FirstAttemptContract,
    ReleaseContract,
    TombstoneContract,
)
from flask_idempotent.testing.contract.decisions import DecideContract
from flask_idempotent.testing.contract.open_steps import OpenStepContract, OperatedStepContract
from flask_idempotent.testing.contract.operators import (
    InspectContract,
    RemovalContract,
    ResolveContract,
)
from flask_idempotent.testing.contract.steps import StepContract
from flask_idempotent.testing.contract.steps_stay import StepsExpireContract, StepsStayContract
from flask_idempotent.testing.contract.waiting import (
    ExpiryContract,
    ListenContract,
    RenewContract,
)


class StoreContract(
    ClaimContract,
    ContendContract,
    CorrectionContract,
    CompleteContract,
    ReleaseContract,
    TombstoneContract,
    FirstAttemptContract,
    DecideContract,
    RenewContract,
    ExpiryContract,
    ListenContract,
    StepContract,
    StepsStayContract,
    StepsExpireContract,
    OpenStepContract,
):
    """What every ``Store`` must do: tests for pytest, each of which is given an empty store.

    Subclass it under a name that begins with ``Test``, and define the fixture ``store``.
    """


class InspectableStoreContract(
    StoreContract, InspectContract, ResolveContract, RemovalContract, OperatedStepContract
):
    """What an ``InspectableStore`` must do: the same, and what operators' commands need."""
