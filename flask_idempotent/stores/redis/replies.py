"""Reads the replies of the scripts into the values of the contract."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flask_idempotent._record_header import OWNER
from flask_idempotent.errors import (
    IdempotentError,
    RecordUnreadable,
    StoreError,
    StoreUnavailable,
)
from flask_idempotent.record_format import decode_summary
from flask_idempotent.records import CompletedRecord, Record, RunningRecord
from flask_idempotent.sealing import Sealer
from flask_idempotent.stores.base import Busy, Claimed, ContendResult, RecordInfo
from flask_idempotent.stores.redis.steps import states_of

#: What the reply of ``contend.lua`` begins with.
_CLAIMED, _COMPLETED = 1, 2
#: The same, and a reply of ``complete.lua``: it needs the key of the steps too.
STEPS_NEEDED = 4


#: Turns the bytes of a record into the record.
Decode = Callable[[bytes], Record]


def of_contend(reply: list[Any], decode: Decode, *, decides: bool) -> ContendResult:
    """Read the reply of ``contend.lua``.

    :param decode: reads the bytes of the key's record.
    :param decides: whether the facts of the run that died are needed.
    :raises RecordUnreadable: when the key's record has damaged bytes.
    :raises StoreUnavailable: when its steps decide, and cannot be asked for now.
    """
    code, *rest = reply
    if code == _CLAIMED:
        return _claimed(decode, *rest, decides=decides)
    if code == _COMPLETED:
        return _completed(decode, *rest)
    if code == STEPS_NEEDED:
        raise StoreUnavailable("the key's slot migrates to another node", sent=False)
    lease_left_ms, data, has_open_step = rest
    other = _running(decode, data)
    is_held = other.held or bool(has_open_step)
    return Busy(other.fingerprint, lease_left_ms, other.started, is_held)


def is_claimed(reply: Any) -> bool:
    """Whether a reply of ``contend.lua`` means that the key is ours."""
    return bool(reply[0] == _CLAIMED)


def of_renew(reply: Any) -> bool | None:
    """Read a reply of ``renew.lua``, or the error in its place."""
    if isinstance(reply, RecordUnreadable):
        return False
    return None if isinstance(reply, StoreError) or reply < 0 else reply == 1


def of_inspect(storage_key: str, reply: Any, sealer: Sealer | None) -> RecordInfo | None:
    """Read a reply of ``inspect.lua``; None when there is no record.

    :param sealer: opens the record where it is sealed.
    :raises StoreError: when it is an error.
    """
    if isinstance(reply, IdempotentError):
        raise reply
    if not reply:
        return None
    size, ttl_ms, head, fields = reply
    owner = head[OWNER]
    try:
        record = decode_summary(head, storage_key, sealer)
    except RecordUnreadable as error:
        return RecordInfo(storage_key, None, ttl_ms, size, owner=owner, damage=str(error))
    lease_left_ms = ttl_ms - record.grace_ms if isinstance(record, RunningRecord) else None
    states = states_of(fields)
    return RecordInfo(storage_key, record, ttl_ms, size, lease_left_ms, owner=owner, steps=states)


def _claimed(
    decode: Decode, attempt: int, first_attempt: int, dead: bytes | None = None, *, decides: bool
) -> Claimed:
    if dead is None:
        return Claimed(attempt, first_attempt)
    read = _running if decides else _dead_owner
    return Claimed(attempt, first_attempt, read(decode, dead))


def _dead_owner(decode: Decode, data: bytes) -> RunningRecord | None:
    # The key is ours even if the dead owner's record is damaged behind its header.
    with suppress(RecordUnreadable):
        return _running(decode, data)
    return None


def _completed(decode: Decode, data: bytes) -> CompletedRecord:
    record = decode(data)
    if not isinstance(record, CompletedRecord):
        raise RecordUnreadable("a running record has numbers that this package never writes")
    return record


def _running(decode: Decode, data: bytes) -> RunningRecord:
    record = decode(data)
    assert isinstance(record, RunningRecord), "contend.lua returns only running records here"
    return record
