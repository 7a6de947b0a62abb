"""Renewal: the claims of this process, and extending their leases before they end."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask_idempotent import _timing
from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.reports import Reports
from flask_idempotent.errors import StoreError, StoreUnavailable
from flask_idempotent.stores.base import Store


class Renewals:
    """The claims whose leases are renewed.

    :param store: where the claims are.
    :param reports: logs and signals lost leases and failed renewals.
    """

    def __init__(self, store: Store, reports: Reports) -> None:
        self._store = store
        self._reports = reports
        self._claims: dict[int, Claim] = {}

    def __iter__(self) -> Iterator[Claim]:
        # A copy, because other threads add and remove claims.
        return iter(list(self._claims.values()))

    def __len__(self) -> int:
        return len(self._claims)

    def add(self, claim: Claim) -> None:
        """Renew a claim from now on."""
        self._claims[id(claim)] = claim

    def remove(self, claim: Claim) -> None:
        """Stop renewing a claim."""
        self._claims.pop(id(claim), None)

    def renew_due(self) -> None:
        """Renew every claim with a third of its lease gone; a failure is reported, not raised."""
        now = time.monotonic()
        # A locked claim is being completed or released.
        locked = [c for c in self if c.is_due(now) and c.lock.acquire(blocking=False)]
        try:
            due = [c for c in locked if not c.settled and c.held and not self._has_overrun(c, now)]
            if due:
                self._renew_or_lose(due)
        except StoreError as error:
            self._reports.store_failed("renew", error)
        finally:
            for claim in locked:
                claim.lock.release()

    def _has_overrun(self, claim: Claim, now: float) -> bool:
        if not claim.has_overrun(now):
            return False
        if not claim.overrun_reported:
            claim.overrun_reported = True
            self._reports.overran(claim)
        return True

    def renew_now(self, claim: Claim) -> bool | None:
        """Renew a claim at once; its loss is returned, not reported.

        :returns: whether the store says that the claim is still ours; None where it does not say.
        :raises StoreError: when the store does not answer.
        """
        with claim.lock:
            if claim.settled:
                return False  # The renewal would restore it.
            (still_ours,) = self._renew([claim])
        return still_ours

    def _renew_or_lose(self, claims: list[Claim]) -> None:
        results = self._renew(claims)
        for claim, still_ours in zip(claims, results, strict=True):
            if still_ours is False and not claim.completing:
                self.mark_lost(claim)
        if unknown := results.count(None):
            # Of several servers one may fail, and the others renew.
            error = StoreUnavailable(f"{unknown} of {len(claims)} leases may not be renewed")
            self._reports.store_failed("renew", error)

    def _renew(self, claims: list[Claim]) -> list[bool | None]:
        sent = time.monotonic()
        results = self._store.renew(
            [claim.renewal() for claim in claims], restore_within_ms=_timing.RESTORE_WITHIN_MS
        )
        for claim, still_ours in zip(claims, results, strict=True):
            if still_ours:
                claim.renewed = sent
        return results

    def mark_lost(self, claim: Claim) -> None:
        """Mark a claim as lost to another request, and report it once."""
        if claim.held:
            claim.held = False
            self._reports.lease_lost(claim)
