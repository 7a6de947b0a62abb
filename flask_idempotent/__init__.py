"""Flask-Idempotent: a request with an idempotency key runs its view once."""

from flask_idempotent.crash import Crash
from flask_idempotent.errors import (
    DatabaseUnavailable,
    IdempotentError,
    LeaseLost,
    OutsideRequest,
    RecordUnreadable,
    SettingsError,
    StepUnknown,
    StoreError,
    StoreUnavailable,
    TooFewReplicas,
    WriteRefused,
)
from flask_idempotent.options import default_store_if
from flask_idempotent.web.current_claim import current_claim
from flask_idempotent.web.decorator import idempotent
from flask_idempotent.web.extension import Idempotent
from flask_idempotent.web.steps import step

__all__ = [
    "Crash",
    "DatabaseUnavailable",
    "Idempotent",
    "IdempotentError",
    "LeaseLost",
    "OutsideRequest",
    "RecordUnreadable",
    "SettingsError",
    "StepUnknown",
    "StoreError",
    "StoreUnavailable",
    "TooFewReplicas",
    "WriteRefused",
    "current_claim",
    "default_store_if",
    "idempotent",
    "step",
]
