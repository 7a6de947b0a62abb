"""The contract of a store for operators: what ``flask idempotent`` and its doctor need."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence

from flask_idempotent.records import CompletedRecord
from flask_idempotent.stores.base import RecordInfo, Store


class InspectableStore(Store):
    """A store that operators can look into, with ``flask idempotent`` and its doctor."""

    @abstractmethod
    def scan(self, prefix: str) -> Iterator[str]:
        """Yield the storage keys that begin with a prefix, in any order, some perhaps twice.

        What the store keeps beside a record has no storage key of its own.
        """

    @abstractmethod
    def inspect(self, storage_keys: Iterable[str]) -> Iterator[RecordInfo]:
        """Yield what operators see of records, in batches; those that are gone are left out.

        :raises StoreError: also when the store fails after some of them.
        """

    @abstractmethod
    def discard(self, infos: Iterable[RecordInfo]) -> int:
        """Delete, in batches, records that did not change since, with their steps.

        Their waiters are woken.

        :returns: how many were deleted.
        """

    @abstractmethod
    def read_offer(self, storage_key: str) -> CompletedRecord | None:
        """Return the response of a late owner that waits in another's running record, if any.

        :raises RecordUnreadable: when the record or the response has damaged bytes.
        """

    @abstractmethod
    def resolve(
        self,
        storage_key: str,
        owner: bytes,
        record: CompletedRecord,
        *,
        ttl_ms: int,
        even_running: bool = False,
    ) -> bool:
        """Store an operator's answer in place of a claim whose owner died, and wake the waiters.

        A released record with an open step is such a claim too. The answer is kept for at least as
        long as the claim would have been, and its steps are deleted. What the claim's owner, or an
        earlier one, answers later is refused.

        :param owner: owner token of the claim.
        :param record: the answer, whose owner token is new.
        :param ttl_ms: milliseconds that the answer is kept at least.
        :param even_running: whether the claim's lease may still be running.
        :returns: whether the answer is stored, now or since an earlier call; False where the key
            has another record than this claim, or its lease is running.
        """

    @abstractmethod
    def delete(self, storage_keys: Iterable[str]) -> int:
        """Delete records and their steps, in batches, and wake their waiters.

        :returns: how many were deleted.
        """

    @abstractmethod
    def ping(self) -> None:
        """Check that the store answers."""

    @abstractmethod
    def facts(self) -> Sequence[Mapping[str, str]]:
        """Return what each server that has keys reports about itself, under Redis's names.

        Added are ``address``, ``transport`` ("tls", "socket", "loopback" or "network"),
        ``topology`` ("server", "sentinel" or "cluster") and ``failure``, where it does not answer.
        What it does not report is left out; without a server there is nothing.
        """
