"""What the engine logs, and the signals that it sends."""

from __future__ import annotations

from flask_idempotent import signals
from flask_idempotent._logging import logger
from flask_idempotent._redact import redacted
from flask_idempotent.engine.claims import Claim, ClaimRequest
from flask_idempotent.errors import StoreError
from flask_idempotent.records import CompletedRecord


class Reports:
    """Reports on the claims of one application.

    :param sender: the sender of the signals.
    """

    def __init__(self, sender: object) -> None:
        self._sender = sender

    def before_wait(self, request: ClaimRequest) -> None:
        """A request is about to wait for the one that has its key."""
        signals.send(
            signals.before_wait, self._sender, key=request.key, storage_key=request.storage_key
        )

    def waited(self, request: ClaimRequest, seconds: float) -> None:
        """A request has waited, whatever its outcome."""
        signals.send(
            signals.waited,
            self._sender,
            key=request.key,
            storage_key=request.storage_key,
            seconds=seconds,
        )

    def completed(self, claim: Claim, record: CompletedRecord, seconds: float) -> None:
        """A response is stored.

        :param seconds: how long the store took.
        """
        signals.send(
            signals.completed,
            self._sender,
            key=claim.key,
            storage_key=claim.storage_key,
            status=record.status_code,
            kept=record.body is not None,
            seconds=seconds,
        )

    def released(self, claim: Claim, reason: str) -> None:
        """A claim was given up."""
        signals.send(
            signals.released,
            self._sender,
            key=claim.key,
            storage_key=claim.storage_key,
            reason=reason,
        )

    def lease_lost(self, claim: Claim) -> None:
        """A claim was lost to another request."""
        logger.warning(
            "lease lost: key %s, record %s, attempt %d ran longer than its lease could be renewed",
            redacted(claim.key), claim.storage_key, claim.attempt,
        )  # fmt: skip
        signals.send(
            signals.lease_lost,
            self._sender,
            key=claim.key,
            storage_key=claim.storage_key,
            owner=claim.owner,
            attempt=claim.attempt,
        )

    def overran(self, claim: Claim) -> None:
        """A view has run longer than ``max_run``."""
        logger.warning(
            "max_run is over: key %s, record %s, attempt %d still runs, and its lease is "
            "no longer renewed; a second run may overlap",
            redacted(claim.key), claim.storage_key, claim.attempt,
        )  # fmt: skip

    def response_lost(self, claim: Claim, reason: str) -> None:
        """A response could not be stored, and no further try will be made."""
        logger.error(
            "a response could not be stored and is lost: record %s: %s", claim.storage_key, reason
        )

    def step_not_recorded(self, claim: Claim, name: str, error: StoreError) -> None:
        """The result of a step is not in the store yet; the view goes on with it.

        :param name: the name of the step.
        """
        logger.warning(
            "the step %r is not recorded yet, and its view goes on: record %s: %s",
            name, claim.storage_key, error,
        )  # fmt: skip
        signals.send(signals.store_failed, self._sender, operation="step", error=error)

    def store_failed(self, operation: str, error: StoreError) -> None:
        """The store failed to carry out a command.

        :param operation: ``"complete"``, ``"release"`` or ``"renew"``.
        """
        logger.error("the store failed to %s: %s", operation, error)
        signals.send(signals.store_failed, self._sender, operation=operation, error=error)
