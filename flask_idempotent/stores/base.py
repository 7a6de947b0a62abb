"""The contract of a store: who owns a key, and what was answered.

Each method is atomic, and each may be carried out twice with the effect of once, because a client
that lost a reply sends its command again. Times are milliseconds.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

from flask_idempotent.records import Answered, Completed, InProgress, Record, Released
from flask_idempotent.stores.events import Hear
from flask_idempotent.stores.waiters import Bell


class Claimed(NamedTuple):
    """The key is ours.

    :param attempt: 1 on a first run, higher after an earlier one.
    :param first_attempt: see the record in progress.
    :param dead: after a take-over the record of the owner that died, where the store tells.
    """

    attempt: int
    first_attempt: int = 1
    dead: InProgress | None = None


class Busy(NamedTuple):
    """The key is another's and its view has not answered.

    :param fingerprint: digest of the other's request.
    :param left: milliseconds its lease still has, 0 or less when it has lapsed; None after a quick
        look, which does not tell.
    :param started: wall clock of the owner when its run began, seconds since 1970; 0 where the
        store does not tell.
    """

    fingerprint: bytes
    left: int | None
    started: float = 0.0


class Reused(NamedTuple):
    """The key was completed for another request; its response stays where it is.

    :param fingerprint: digest of the other request.
    :param owner: token of the run that answered it.
    :param operation: see the completed record.
    """

    fingerprint: bytes
    owner: bytes
    operation: bytes


Reply = Claimed | Busy | Reused | Completed


class Completion(enum.Enum):
    """What became of a response."""

    #: It is the key's response, now or since an earlier call.
    STORED = 1
    #: Another run is in progress; if it gives up, this response is stored.
    OFFERED = 2
    #: Another's response stands, or the key belongs to another request by now, or did meanwhile.
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class Renewal:
    """One claim to renew.

    :param key: name of the record.
    :param record: the record as it was claimed.
    :param expire: milliseconds that it is kept from now on.
    """

    key: str
    record: InProgress
    expire: int


@dataclass(frozen=True, slots=True)
class Sight:
    """What an operator sees of a record.

    :param key: name of the record.
    :param record: what it says, without headers and body; None when its bytes are damaged.
    :param life: milliseconds until it is gone; negative where somebody has made it stay for ever.
    :param octets: its size.
    :param lease: milliseconds the lease still has, 0 or less once it has lapsed; None for what is
        not in progress.
    :param waiters: how many processes wait for it; None when the store does not tell.
    :param token: the owner token's bytes, whatever they are, which tell it from a later record.
    """

    key: str
    record: InProgress | Released | Answered | None
    life: int
    octets: int
    lease: int | None = None
    waiters: int | None = 0
    token: bytes = b""

    @property
    def lapsed(self) -> bool:
        """Whether it is in progress and its owner died or stands still."""
        return self.lease is not None and self.lease <= 0


class Store(ABC):
    """Where records live.

    Every method raises ``StoreError`` when the store does not do what it is asked.
    """

    @abstractmethod
    def claim(
        self,
        key: str,
        record: InProgress,
        *,
        expire: int,
        takeover: bool,
        quick: bool = False,
        replaces: bytes | None = None,
    ) -> Reply:
        """Claim a key, or tell what is known of it.

        The same owner's token may claim again: its lease begins anew. A released key is free, and
        its attempt number goes on.

        :param expire: how long the record is kept; its lease is shorter by the record's grace.
        :param takeover: whether a lapsed claim with the same fingerprint becomes ours.
        :param quick: whether it is enough to know that the key is another's: its lease need not be
            told, nor a lapsed one be taken over. Then a response may be told to another request.
        :param replaces: owner token of a completed record whose place the claim takes, because its
            request is corrected; None for none.
        :raises RecordUnreadable: when the key's record has damaged bytes.
        """

    @abstractmethod
    def now(self) -> int:
        """The store's clock, in milliseconds."""

    @abstractmethod
    def renew(self, renewals: Sequence[Renewal], *, until: int) -> list[bool | None]:
        """Begin leases anew, and put back claims that are gone.

        :param until: until when, on the store's clock, a claim that is gone may be put back.
        :returns: for each whether the claim is still ours, None when that is unknown.
        """

    @abstractmethod
    def complete(self, key: str, record: Completed, *, expire: int) -> Completion:
        """Store a response and wake the waiters, unless another owns the key.

        A released key takes the response of a run that was late, if it belongs to the same request.
        """

    @abstractmethod
    def release(
        self,
        key: str,
        owner: bytes,
        *,
        expire: int,
        tombstone_ttl_ms: int,
        owner_may_run: bool = False,
    ) -> bool:
        """Give a claim up and wake the waiters; a late owner's response takes its place.

        Where there was an attempt before, its owner may still run: the record becomes a released
        one.

        :param expire: how long that response is kept.
        :param tombstone_ttl_ms: how long the released record is kept.
        :param owner_may_run: whether this owner itself may still run, because somebody else gives
            its claim up: the record becomes a released one whatever the attempt.
        :returns: whether there was a claim of this owner.
        """

    @abstractmethod
    def listen(self, key: str, seconds: float) -> AbstractContextManager[Bell]:
        """Get a bell that rings when a key is completed or released.

        The bell hears everything from the moment that the context is entered, or, where the store
        does not answer within ``seconds``, what it happens to hear.
        """

    @abstractmethod
    def events(self, prefix: str) -> AbstractContextManager[Hear]:
        """Hear what happens to the records whose key begins with a prefix.

        It hears everything from the moment that the context is entered. Waiting raises
        ``StoreError`` when the store is away; what happens until it is entered again is not heard.
        """

    @abstractmethod
    def read(self, key: str) -> Record | None:
        """Read a record.

        :raises RecordUnreadable: when it has damaged bytes.
        """

    @abstractmethod
    def scan(self, prefix: str) -> Iterator[str]:
        """Name the records whose key begins with a prefix, in no order, perhaps twice."""

    @abstractmethod
    def inspect(self, keys: Iterable[str]) -> Iterator[Sight]:
        """Look at records, in batches; those that are gone are left out."""

    @abstractmethod
    def discard(self, sights: Iterable[Sight]) -> int:
        """Delete records that are still those that were seen, in batches, and wake their waiters.

        :returns: how many there were.
        """

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> int:
        """Delete records, in batches, and wake their waiters.

        :returns: how many there were.
        """

    @abstractmethod
    def ping(self) -> None:
        """Ask for a sign of life."""

    @abstractmethod
    def facts(self) -> Mapping[str, str]:
        """What the server tells of itself and its settings, by Redis's own names.

        Beside them ``transport``: ``"tls"``, ``"socket"``, ``"loopback"`` or ``"network"``. What
        the server does not tell is missing; where there is no server, all of it.
        """

    @abstractmethod
    def close(self) -> None:
        """Give connections and threads back; a later call opens them again."""
