"""Exceptions for the program that uses this package.

Clients of the application get the problems in ``problems.py``.

* IdempotentError
    * SettingsError
    * OutsideRequest
    * StoreError
        * StoreUnavailable
        * WriteRefused
        * TooFewReplicas
    * RecordUnreadable
    * DatabaseUnavailable
    * LeaseLost
    * StepUnknown
"""

from __future__ import annotations


class IdempotentError(Exception):
    """Base of every exception of this package."""


class SettingsError(IdempotentError, ValueError):
    """A setting has a wrong name, type or range, or is used in the wrong place."""


class OutsideRequest(IdempotentError, RuntimeError):
    """A decorated function was called outside a request, so there is no key to look for."""


class StoreError(IdempotentError):
    """The store failed to carry out a command.

    :param message: what happened. It contains no password.
    :param sent: whether the command may have reached the store.
    """

    #: Whether the command may have reached the store, which may then have carried it out.
    sent: bool

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class StoreUnavailable(StoreError):
    """The store is dead, silent, loading, or answers with an error."""


class WriteRefused(StoreError):
    """The store answers but refuses writes: it lacks memory or replicas, or is read-only."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class TooFewReplicas(StoreError):
    """Fewer replicas than ``min_replicas`` confirmed what the store has written."""


class RecordUnreadable(IdempotentError):
    """A record has an unknown version, damaged bytes, or parts that this package never writes."""


class DatabaseUnavailable(IdempotentError):
    """The view's own database does not say whether the request has run."""


class LeaseLost(IdempotentError):
    """The run has lost its key to another one, so no further step of it may begin.

    ``step()`` raises it. When it leaves the view, the request is answered like a duplicate: it
    waits for the other run and gets its response.
    """


class StepUnknown(IdempotentError):
    """A step with ``once=True`` began in an earlier run and is not known to have ended.

    ``step()`` raises it. When it leaves the view, the response is 409 "outcome-unknown".

    :param name: the name of the step.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the step {name!r} began in an earlier run, and it is not known whether it ended"
        )
        self.name = name
