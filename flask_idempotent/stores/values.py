"""What the methods of a store take and return. Times are milliseconds."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flask_idempotent.crash import StepState
from flask_idempotent.records import (
    CompletedRecord,
    CompletedSummary,
    Record,
    ReleasedRecord,
    RunningRecord,
)


class Claimed(NamedTuple):
    """The key is ours.

    :param attempt: 1 on a first run, one more on each later one.
    :param first_attempt: the attempt from which on the key belongs to our fingerprint; what earlier
        runs answer is refused.
    :param dead: after a take-over the record of the owner that died; None where the store does not
        return it. Where we decide what follows, it is never None; it may be our own record, which
        has the facts of the run that died.
    """

    attempt: int
    first_attempt: int = 1
    dead: RunningRecord | None = None


class Busy(NamedTuple):
    """Another request has the key, and its view has not answered yet.

    :param fingerprint: digest of that request.
    :param lease_left_ms: milliseconds until its lease ends; 0 or less when it has ended.
    :param started: when its run began by its owner's wall clock, in seconds since 1970.
    :param held: whether no view runs, and the key is held until the lease ends.
    """

    fingerprint: bytes
    lease_left_ms: int
    started: float = 0.0
    held: bool = False


#: What ``Store.claim`` returns: the key is ours, or the record that has it.
ClaimResult = Claimed | Record
#: What ``Store.contend`` returns.
ContendResult = Claimed | Busy | CompletedRecord


class Completion(enum.Enum):
    """What ``Store.complete`` did with a response."""

    #: It is the key's response, now or since an earlier call.
    STORED = 1
    #: Another run is in progress. If that one gives up or dies, this response is stored.
    OFFERED = 2
    #: The key has another response, or belongs to another request now, or did in the meantime.
    REFUSED = 3


class Step(NamedTuple):
    """A step of a view that began or ended, as the store keeps it.

    :param name: its name, which is not empty.
    :param owner: owner token of the run that wrote this.
    :param time: wall clock when it began or ended, in seconds since 1970. It is shown to people; no
        store compares it.
    :param value: the bytes of what it returned; None where it began and is not known to have ended.
    """

    name: str
    owner: bytes
    time: float
    value: bytes | None = None

    @property
    def state(self) -> StepState:
        """``"started"`` where it is not known to have ended, else ``"ended"``."""
        return "started" if self.value is None else "ended"


class StepResult(enum.Enum):
    """What ``Store.write_step`` did with a step."""

    #: It is written, now or since an earlier call.
    WRITTEN = 1
    #: The key is not ours any more: it is another's, released or completed.
    LOST = 0
    #: The key has no record.
    GONE = -1


@dataclass(frozen=True, slots=True)
class Renewal:
    """One claim to renew.

    :param storage_key: the record's name in the store.
    :param record: the record as it was claimed.
    :param ttl_ms: milliseconds that it is kept from now on.
    :param has_steps: whether its run, or an earlier one, may have steps; they are kept as long.
    """

    storage_key: str
    record: RunningRecord
    ttl_ms: int
    has_steps: bool = False


@dataclass(frozen=True, slots=True)
class RecordInfo:
    """What an operator sees of a record.

    :param storage_key: the record's name in the store.
    :param record: its contents, without headers and body; None when its bytes are damaged.
    :param ttl_ms: milliseconds until the store deletes it; negative where its time to live was
        removed.
    :param size: its size in bytes.
    :param lease_left_ms: milliseconds until its lease ends, 0 or less when it has ended; None for
        what is not in progress.
    :param waiters: how many processes wait for its response; None when the store does not say.
    :param owner: the bytes at the place of the owner token, which distinguish this record from a
        later one even where it is damaged.
    :param steps: the names and states of its steps.
    :param damage: why its contents cannot be read; empty where they can.
    """

    storage_key: str
    record: RunningRecord | ReleasedRecord | CompletedSummary | None
    ttl_ms: int
    size: int
    lease_left_ms: int | None = None
    waiters: int | None = 0
    owner: bytes = b""
    steps: Mapping[str, StepState] = field(default_factory=dict, hash=False)
    damage: str = ""

    @property
    def lease_lapsed(self) -> bool:
        """Whether it is in progress and nobody runs it: its lease has ended, or it is held."""
        if isinstance(self.record, RunningRecord) and self.record.held:
            return True
        return self.lease_left_ms is not None and self.lease_left_ms <= 0

    @property
    def open_steps(self) -> tuple[str, ...]:
        """The names of its steps that began and are not known to have ended."""
        return tuple(name for name, state in self.steps.items() if state == "started")

    @property
    def is_resolvable(self) -> bool:
        """Whether nobody runs it, and an operator may decide what follows.

        Its lease has lapsed; or it was released, and the key is held at an open step.
        """
        is_held_at_step = isinstance(self.record, ReleasedRecord) and bool(self.open_steps)
        return self.lease_lapsed or is_held_at_step
