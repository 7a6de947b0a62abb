"""The contract of a transaction: the view's own database keeps the answer with the view's rows.

The store says who runs. It may forget: a server can be flushed or fail over, a process can die
between the view's commit and ours, a paused owner can wake up after its lease. A database that has
the answer under the storage key, in the same transaction as the view's rows, cannot be written to
twice: the second commit would have to write the same key.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import NamedTuple

from flask_idempotent.errors import DatabaseUnavailable
from flask_idempotent.records import CompletedRecord
from flask_idempotent.sealing import Sealer


class Answer(NamedTuple):
    """A response that the view's own database keeps.

    :param storage_key: the name of the record in the store, and the primary key in the database.
    :param record: the response; its ``owner`` is the token of the run that answered.
    :param ttl_ms: milliseconds for which it is kept, from the moment that it is written; when it is
        read, what is left of them by the database's own clock, 0 or less when it has expired.
    """

    storage_key: str
    record: CompletedRecord
    ttl_ms: int


class Transaction(ABC):
    """The database transaction that a view's run is.

    A class for a database of your own derives from this one and is given to
    ``@idempotent(transaction=...)``. One object serves all threads: the current transaction is
    that of the current request.
    """

    #: Whether the answers are sealed with ``IDEMPOTENT_SECRETS``, so that these must be set.
    sealed: bool = False

    def sealed_with(self, sealer: Sealer) -> Transaction:
        """Return this transaction as applications with ``IDEMPOTENT_SECRETS`` need it.

        It is called whether or not the answers are to be sealed, so that those that are can be
        read. The default seals nothing.

        :param sealer: what ``record_format`` seals and opens records with.
        """
        return self

    @abstractmethod
    def look_up(self, storage_key: str) -> Answer | None:
        """Return the answer of a key, expired or not; None where there is none.

        It must see what other connections have committed until now, and must not leave a
        transaction open that was not open before. It opens a new connection where that of the
        current transaction is broken.

        :raises DatabaseUnavailable: when the database does not answer.
        :raises SettingsError: when there is no place for answers, such as a missing table.
        """

    def begin(self) -> None:  # noqa: B027 - most databases have nothing to do here
        """Prepare for the view, which runs next."""

    @abstractmethod
    def commit(self, answer: Answer | None, *, replaces: bytes | None = None) -> None:
        """Write an answer, and commit it together with what the view has written.

        The answer is written last, because it may lock what other requests need. Where another
        transaction is about to write the same key, this waits for it for a second or two.

        :param answer: the answer; None to commit without one.
        :param replaces: owner token of the answer that was looked up and may be replaced, expired
            or corrected; None where there was none.
        :raises DatabaseUnavailable: when another transaction keeps the key locked.
        :raises Exception: whatever the database raises, when nothing was committed or when that is
            unknown; also where the key has an answer other than the one to be replaced.
        """

    @abstractmethod
    def roll_back(self) -> None:
        """Discard what the view has written and not committed."""

    def has_committed(self) -> bool:
        """Whether the view has committed by itself since ``begin``.

        Then its answer can only follow in a transaction of its own, and a crash between the two
        commits makes the view run again.
        """
        return False


class Weakness(NamedTuple):
    """What may break the promise of a transaction, for ``flask idempotent doctor``.

    :param text: what was found, and what follows from it.
    :param fix: how to fix it.
    """

    text: str
    fix: str


class InspectableTransaction(Transaction):
    """A transaction whose answers operators can delete, with ``flask idempotent``."""

    @abstractmethod
    def delete(self, storage_keys: Iterable[str]) -> int:
        """Delete the answers of keys, in batches.

        :returns: how many were deleted.
        """

    @abstractmethod
    def delete_all(self, prefix: str, *, keep: Collection[str]) -> int:
        """Delete the answers of all keys whose names begin with a prefix.

        :param keep: keys whose answers stay, a few.
        :returns: how many were deleted.
        """

    @abstractmethod
    def prune(self, batch: int) -> int:
        """Delete up to this number of expired answers in one transaction.

        :returns: how many were deleted.
        """

    @property
    def is_thread_local(self) -> bool:
        """Whether each thread has a transaction of its own. Async views run in another thread."""
        return False

    def longest_expired(self) -> float | None:
        """Return how long ago the answer that expired first did so, in seconds; None for none."""
        return None

    def weaknesses(self) -> Iterable[Weakness]:
        """Return what may break the promise, as far as the database and its driver show it."""
        return ()


def commit_answer(
    transaction: Transaction, answer: Answer, *, replaces: bytes | None = None
) -> Answer:
    """Commit an answer with the view's rows, and return the answer that the key has then.

    It is another one where another run has committed first; the view's rows are discarded then.

    :param replaces: as in ``Transaction.commit``.
    :returns: the object that was given, where its response is the key's; else what is stored.
    :raises DatabaseUnavailable: when the answer is locked, or it cannot be found out whether it was
        committed. Nothing else may be assumed; the next run looks it up.
    :raises Exception: the view's own error, such as a serialization failure or a violated
        constraint; nothing was committed.
    """
    try:
        transaction.commit(answer, replaces=replaces)
    except DatabaseUnavailable:
        with suppress(Exception):
            transaction.roll_back()
        raise
    except Exception as error:
        stored = _look_up_after(transaction, answer.storage_key, error)
        if stored is None or stored.record.owner == replaces:
            raise
        if not _is_same_response(stored.record, answer.record):
            return stored
    return answer


def _is_same_response(stored: CompletedRecord, ours: CompletedRecord) -> bool:
    # The owner alone does not say it. A commit that seems to have failed may be carried out later,
    # after the same run has turned the failure into another response.
    return (stored.owner, stored.status, stored.headers, stored.body, stored.session) == (
        ours.owner, ours.status, ours.headers, ours.body, ours.session,
    )  # fmt: skip


def _look_up_after(transaction: Transaction, storage_key: str, error: Exception) -> Answer | None:
    # The commit may have been carried out and its reply lost, or another run may have been first.
    try:
        transaction.roll_back()
        return transaction.look_up(storage_key)
    except Exception as failure:
        raise DatabaseUnavailable(
            f"it is unknown whether the view's transaction was committed: {failure}"
        ) from error
