"""The contract of a store, which keeps who owns a key and what was answered.

Each method is atomic and idempotent: a client that lost a reply sends its command again. Times are
milliseconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager

from flask_idempotent.errors import SettingsError
from flask_idempotent.records import CompletedRecord, Record, RunningRecord
from flask_idempotent.sealing import Sealer
from flask_idempotent.stores.values import (
    Busy,
    Claimed,
    ClaimResult,
    Completion,
    ContendResult,
    RecordInfo,
    Renewal,
    Step,
    StepResult,
)
from flask_idempotent.stores.waiters import Waiter

__all__ = [
    "Busy",
    "ClaimResult",
    "Claimed",
    "Completion",
    "ContendResult",
    "RecordInfo",
    "Renewal",
    "Step",
    "StepResult",
    "Store",
]


class Store(ABC):
    """Where records live, as far as requests need it.

    A store of your own derives from this class, or from ``InspectableStore``, and is given to
    ``Idempotent(app, store=...)``. Requests use it from many threads at once. Every method raises
    ``StoreError`` when the store fails to carry it out.
    """

    @abstractmethod
    def claim(self, storage_key: str, record: RunningRecord, *, ttl_ms: int) -> ClaimResult:
        """Write a record where the key has none, or return the existing one.

        This is the first command of every request with a key, and for most of them the only one
        before the view or the replay, so it should be as cheap as possible. It never changes an
        existing record; ``contend`` does.

        :param storage_key: the record's name in the store.
        :param record: the record of this request, as attempt 1.
        :param ttl_ms: milliseconds that the record is kept. Its lease is shorter by ``grace_ms``.
        :returns: ``Claimed(1)``, or the record that has the key.
        :raises RecordUnreadable: when that record has damaged bytes.
        :raises WriteRefused: when the store refuses writes and the key is not completed.
        """

    @abstractmethod
    def contend(
        self,
        storage_key: str,
        record: RunningRecord,
        *,
        ttl_ms: int,
        takeover: bool,
        replaces: bytes | None = None,
        decides: bool = False,
    ) -> ContendResult:
        """Claim a key for which ``claim`` has returned a record.

        Depending on what the key has now, this

        * writes the record, where there is none;
        * starts our lease again, where the record has our own owner token (the reply to an earlier
          claim was lost), and without ``decides`` writes the record, where ours was to decide: its
          view begins, unless a late owner has offered a response;
        * writes the record as the next attempt, where the record is a released one;
        * writes it as the next attempt, where a claim with the same fingerprint has lapsed and
          ``takeover`` is true, unless a late owner has offered a response: then that response
          becomes the key's and is returned;
        * returns the claim as held, where such a claim, or a released record, has an *open* step:
          one that began and is not known to have ended. With ``decides`` it writes the record as
          the next attempt all the same, to decide about the run of that claim or record;
        * writes it as the next attempt, where the record is the completed one that ``replaces``
          names;
        * returns the response, where the record is any other completed one;
        * otherwise returns how long the lease of another's claim still lasts.

        The steps of earlier attempts stay where the next attempt has the same fingerprint, and are
        deleted otherwise. Those that are open are deleted where the view of a request that was to
        decide begins.

        :param ttl_ms: milliseconds that a record which is written is kept.
        :param takeover: whether a lapsed claim with the same fingerprint becomes ours.
        :param replaces: owner token of the completed record that this request, a corrected one,
            replaces; None for none.
        :param decides: whether we, having taken over, decide what follows the death of the owner
            before a view runs. The record then keeps what is known of the run that died, as
            ``RunningRecord.decide_about`` does.
        :raises RecordUnreadable: when the key's record has damaged bytes.
        :raises WriteRefused: when the store refuses writes and the key is not completed.
        """

    @abstractmethod
    def renew(self, renewals: Sequence[Renewal], *, restore_within_ms: int) -> list[bool | None]:
        """Start leases again, and restore claims whose records are gone.

        A record that belongs to another owner, or is completed or released, stays as it is. The
        grace of the given record is written into one that is ours.

        :param renewals: the claims.
        :param restore_within_ms: milliseconds from this call on, by the store's own clock, within
            which a record that is gone may be restored. A renewal that the store carries out later
            must not bring back a claim that was released in the meantime.
        :returns: for each claim whether it is still ours; None when that is unknown.
        """

    @abstractmethod
    def write_step(
        self, storage_key: str, record: RunningRecord, step: Step, *, ttl_ms: int | None
    ) -> StepResult | Step:
        """Keep a step of our run, and start the lease again.

        A step that ended takes the place of the one that began. Steps that the key has from a
        request with another fingerprint are deleted first. Steps are kept at least as long as the
        record, also when the claim is released and the next attempt runs.

        :param record: the record as it was claimed. Its grace is written into the key's record.
        :param step: the step, which has our owner token.
        :param ttl_ms: milliseconds that the record is kept; None leaves the lease as it is.
        :returns: what was done. Where a step begins which another run, an earlier one, has under
            this name, it returns that step and writes nothing.
        :raises RecordUnreadable: when the steps that are there have damaged bytes.
        :raises WriteRefused: when the store refuses writes.
        """

    @abstractmethod
    def read_steps(self, storage_key: str, fingerprint: bytes) -> list[Step]:
        """Return the steps of a key in order of time, without those of another fingerprint.

        :raises RecordUnreadable: when they have damaged bytes.
        """

    @abstractmethod
    def complete(
        self, storage_key: str, record: CompletedRecord, *, ttl_ms: int, has_steps: bool = False
    ) -> Completion:
        """Store a response and wake the waiters, unless another run owns the key.

        This

        * stores the response, where the key has no record, or one with the response's owner token;
        * replaces a released record that has the same fingerprint, unless the response's attempt is
          lower than the record's ``first_attempt``;
        * keeps it in another's running record that has the same fingerprint, under the same
          condition, unless a response is there already: that run is the key's owner now, and the
          response is needed only when it gives up or dies;
        * refuses it otherwise.

        A response that is stored deletes the steps.

        :param ttl_ms: milliseconds that the response is kept.
        :param has_steps: whether the key may have steps: this run has some, or is not the first.
            A later one that this run does not know of may have left some all the same.
        """

    @abstractmethod
    def release(
        self,
        storage_key: str,
        owner: bytes,
        *,
        response_ttl_ms: int,
        tombstone_ttl_ms: int,
        owner_may_run: bool = False,
        holds: bool = False,
        has_steps: bool = False,
        unstarted: str = "",
    ) -> bool:
        """Give up a claim and wake the waiters.

        If a late owner has offered a response, that becomes the key's. Otherwise the record is
        deleted, or, where this is not the first attempt, becomes a released one: the owner of an
        earlier attempt may still run, and the attempt number must not start again. It becomes a
        released one also where there are steps, which stay.

        The claim of an owner that was to decide what follows a crash stays instead, so that the
        next request is asked: when the lease ends, which is now unless ``holds`` is true.

        :param owner: owner token of the claim.
        :param response_ttl_ms: milliseconds that a late owner's response is kept.
        :param tombstone_ttl_ms: milliseconds that a released record is kept, unless it has steps
            that are kept longer.
        :param owner_may_run: whether this owner itself may still run, because an operator releases
            its claim. Then the record becomes a released one on a first attempt too, and where
            nobody has decided. Open steps are deleted, also those of a released record.
        :param holds: whether the owner has decided to hold the key: the record becomes a held one,
            and a late owner's response is stored over it. Its lease goes on.
        :param has_steps: whether the key may have steps, as for ``complete``.
        :param unstarted: name of the step of this run that may be kept as one that began, although
            its function never ran; it is deleted. Empty for none.
        :returns: whether there was a claim of this owner.
        """

    @abstractmethod
    def listen(self, storage_key: str, seconds: float) -> AbstractContextManager[Waiter]:
        """Return a waiter that is notified when the key is completed, released or deleted.

        It receives every notification from the moment that the context is entered.

        :param seconds: how long to wait until the store confirms that. After this time the waiter
            may miss notifications, and its ``may_have_missed`` is True.
        """

    @abstractmethod
    def read(self, storage_key: str) -> Record | None:
        """Return a record; None when there is none.

        :raises RecordUnreadable: when it has damaged bytes.
        """

    def confirmed_by(self, replicas: int) -> Store:
        """Return this store as views with ``min_replicas`` need it; the default refuses.

        Its ``claim``, ``contend`` and ``complete`` raise ``TooFewReplicas`` after they wrote what
        fewer replicas have confirmed in time; ``complete`` asks again when it is called again.

        :param replicas: how many must confirm, at least 1.
        :raises SettingsError: when this kind of store has no replicas.
        """
        raise SettingsError(f"min_replicas needs replicas, and {type(self).__name__} has none")

    def sealed_with(self, sealer: Sealer) -> Store:
        """Return this store as applications with ``IDEMPOTENT_SECRETS`` need it.

        Whatever it writes where others may read it is sealed: it gives the sealer to ``encode``
        and ``decode``. The default refuses, so that nothing is kept unsealed by mistake.

        :param sealer: what ``record_format`` seals and opens records with.
        :raises SettingsError: when this kind of store does not seal.
        """
        raise SettingsError(
            f"IDEMPOTENT_SECRETS needs a store that seals its records, and {type(self).__name__} "
            "does not: implement sealed_with()"
        )

    @abstractmethod
    def close(self) -> None:
        """Close connections and end threads; a later call starts them again."""
