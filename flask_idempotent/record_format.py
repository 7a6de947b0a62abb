"""The bytes of a record, for authors of stores.

A record is a header of fixed size followed by msgpack. A script in the store can read and compare
the header in place, without the rest. Numbers are big-endian:

====== ====== ========= ====================================================================
offset length in Lua    meaning
====== ====== ========= ====================================================================
0      1      1         version of this layout
1      1      2         state: ``p`` in progress, ``h`` held, ``c`` completed, ``r`` released
2      8      3 to 10   grace: milliseconds that it outlives its lease (0 unless ``p`` or ``h``)
10     4      11 to 14  attempt: 1 on a first run, one more for each later one
14     4      15 to 18  offer: offset of a late owner's response in this record, 0 for none
18     16     19 to 34  owner token
34     16     35 to 50  fingerprint of the request
50     4      51 to 54  the attempt from which on the key belongs to this fingerprint
54     4      55 to 58  the attempt that died, where the owner decides what follows; else 0
58            from 59   msgpack, see below
====== ====== ========= ====================================================================

The end of the lease is not stored. A lease has ended when the record's remaining time to
live is at most its grace. So a renewal moves the expiry and writes nothing into the record, and
only the store's clock counts.

The msgpack of a record in progress is ``[method, endpoint, host, pid, started]``; a released
record keeps it. Host, process and start are those of the run that died, where its owner decides
what follows, and where it has decided to hold the key. That of a completed record is
``[status, time, operation, method, endpoint, headers, body, session]``, with alternating names and
values in ``headers``. The body is bytes, or ``[codec, bytes, size]`` where it is kept compressed,
or nil for a response that was not kept. The session part is bytes, which the web layer alone reads;
it is empty where a replay repeats nothing of the session.

A sealed record has the same header. Behind it are the byte C1, with which no msgpack begins, and

* of a record in progress or released: the owner token of the run that sealed it, then a nonce of 12
  bytes, the encrypted msgpack, and a tag of 16 bytes. A take-over writes a new header and may keep
  what it finds behind it; so storage key, owner and fingerprint are authenticated;
* of a completed record: nonce, encrypted msgpack and tag, authenticated together with the storage
  key and the whole header. What does not fit into the first 1024 bytes of the record follows in a
  second nonce, text and tag, so that a summary needs these first bytes only.

Nothing is ever pickled, and other programs may write to the store: ``decode`` accepts only what
``encode`` could have written.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

from flask_idempotent._http_syntax import are_fields, is_status
from flask_idempotent._msgpack import UNPACK_ERRORS, pack, unpack, unpack_first
from flask_idempotent._record_header import (
    COMPLETED,
    HEADER,
    HEADER_SIZE,
    HELD,
    IN_PROGRESS,
    OFFER,
    RELEASED,
    STATE,
    VERSION,
)
from flask_idempotent._sealed_records import open_record, seal_record
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.records import (
    CompletedRecord,
    CompletedSummary,
    CompressedBody,
    Record,
    ReleasedRecord,
    RunningRecord,
)
from flask_idempotent.sealing import MARK, NOT_OPENED, Sealer

#: The only codec of compressed bodies (RFC 1950).
_ZLIB = "zlib"
#: The higher levels take several times as long and save a few per cent.
_ZLIB_LEVEL = 1
#: Lua counts milliseconds exactly up to here.
_GRACE_END = 1 << 53
#: The end of ``datetime``'s calendar, in seconds since 1970.
_YEAR_10000 = 253_402_300_800
_UNKNOWN_VERSION = f"record version {{}} is unknown, this release reads {VERSION}"
_DECODE_ERRORS = (*UNPACK_ERRORS, struct.error)


def encode(
    record: Record, storage_key: str = "", sealer: Sealer | None = None, *, offer: int = 0
) -> bytes:
    """Turn a record into bytes.

    :param storage_key: the record's name in the store; it is needed to seal it.
    :param sealer: seals it; None to leave it readable.
    :param offer: offset at which the store appends a late owner's response; 0 for none.
    """
    grace_ms, first_attempt, died = 0, record.attempt, 0
    payload: list[Any]
    if isinstance(record, CompletedRecord):
        state, headers = COMPLETED, [part for pair in record.headers for part in pair]
        payload = [
            record.status, record.time, record.operation, record.method, record.endpoint,
            headers, _encode_body(record), record.session,
        ]  # fmt: skip
    else:
        state, first_attempt = RELEASED, record.first_attempt
        if isinstance(record, RunningRecord):
            state = HELD if record.held else IN_PROGRESS
            grace_ms, died = record.grace_ms, record.died
        payload = [record.method, record.endpoint, record.host, record.pid, record.started]
    header = HEADER.pack(
        VERSION, state, grace_ms, record.attempt, offer, record.owner, record.fingerprint,
        first_attempt, died,
    )  # fmt: skip
    if sealer is None or not sealer.seals:
        return header + pack(payload)
    return seal_record(header, pack(payload), storage_key, sealer)


def _encode_body(record: CompletedRecord) -> bytes | tuple[str, bytes, int] | None:
    body = record.body
    if isinstance(body, CompressedBody):
        return (_ZLIB, *body)
    if body and record.compress:
        compressed = zlib.compress(body, _ZLIB_LEVEL)
        if len(compressed) < len(body):
            return _ZLIB, compressed, len(body)
    return body


def decode(data: bytes, storage_key: str = "", sealer: Sealer | None = None) -> Record:
    """Turn bytes into a record.

    Whatever program wrote the bytes, the status and the headers of the record can be sent, and its
    times, sizes and numbers are in range.

    :param storage_key: the record's name in the store, as it was given to ``encode``.
    :param sealer: opens sealed records, and says whether others are accepted; None where no record
        is sealed.
    :raises RecordUnreadable: on an unknown version, or bytes that ``encode`` never writes; also
        where they are sealed and cannot be opened, or are not sealed and must be.
    """
    try:
        version, state, grace_ms, attempt, offer, owner, fingerprint, first_attempt, died = (
            HEADER.unpack_from(data)
        )
        if version != VERSION:
            raise RecordUnreadable(_UNKNOWN_VERSION.format(version))
        _require(0 < first_attempt <= attempt and grace_ms < _GRACE_END)
        payload = data[HEADER_SIZE : offer or None]
        if sealer is not None:
            payload = open_record(data[:HEADER_SIZE], payload, storage_key, sealer)
        if state in (IN_PROGRESS, HELD):
            # Only who decides can have decided to hold.
            _require(died < attempt and (died > 0 or state == IN_PROGRESS))
            # A late owner's response follows, unless the store cut it off.
            _require(not offer or HEADER_SIZE < offer <= len(data))
            return RunningRecord(
                owner=owner,
                fingerprint=fingerprint,
                attempt=attempt,
                grace_ms=grace_ms,
                **_decode_run(payload),
                first_attempt=first_attempt,
                died=died,
                held=state == HELD,
            )
        _require(not (grace_ms or offer or died))
        if state == COMPLETED:
            return _decode_response(owner, fingerprint, attempt, payload)
        if state == RELEASED:
            return ReleasedRecord(
                owner=owner,
                fingerprint=fingerprint,
                attempt=attempt,
                **_decode_run(payload),
                first_attempt=first_attempt,
            )
    except _DECODE_ERRORS as error:
        raise _damaged(data, sealer, error) from error
    raise RecordUnreadable(f"record state {state!r} is unknown")


def _damaged(data: bytes, sealer: Sealer | None, error: Exception) -> RecordUnreadable:
    if sealer is None and data[HEADER_SIZE:].startswith(MARK):
        return RecordUnreadable(NOT_OPENED)
    reason = error if len(data) >= HEADER_SIZE else f"it has only {len(data)} bytes"
    return RecordUnreadable(f"record is damaged: {reason}")


def _decode_run(payload: bytes) -> dict[str, Any]:
    """Read what both a running and a released record say of a run, by the names of their fields."""
    method, endpoint, host, pid, started = unpack(payload)
    _require(_are_strings(method, endpoint, host) and _is_time(started))
    _require(type(pid) is int and 0 <= pid < 1 << 32)
    return {
        "host": host, "pid": pid, "started": started, "method": method, "endpoint": endpoint,
    }  # fmt: skip


def _decode_response(
    owner: bytes, fingerprint: bytes, attempt: int, payload: bytes
) -> CompletedRecord:
    status, time, operation, method, endpoint, flat_headers, body, session = unpack(payload)
    _require(
        is_status(status)
        and _are_strings(method, endpoint)
        and type(flat_headers) is list
        and are_fields(flat_headers)
        and type(operation) is bytes
        and type(session) is bytes
        and _is_time(time)
    )
    parts = iter(flat_headers)
    return CompletedRecord(
        owner=owner,
        fingerprint=fingerprint,
        attempt=attempt,
        status=status,
        headers=tuple(zip(parts, parts, strict=True)),
        body=_decode_body(body),
        time=time,
        method=method,
        endpoint=endpoint,
        operation=operation,
        session=session,
    )


def _decode_body(body: Any) -> bytes | CompressedBody | None:
    if body is None or type(body) is bytes:
        return body
    _require(type(body) is list)
    codec, data, size = body
    _require(codec == _ZLIB and type(data) is bytes and type(size) is int and size >= 0)
    return CompressedBody(data, size)


def decode_offer(
    data: bytes, storage_key: str = "", sealer: Sealer | None = None
) -> CompletedRecord | None:
    """Read the response of a late owner that waits in a record in progress; None where none does.

    The parameters are those of ``decode``.

    :raises RecordUnreadable: as ``decode`` does.
    """
    record = decode(data, storage_key, sealer)
    offset = int.from_bytes(data[OFFER])
    if not offset or offset == len(data):
        return None
    assert isinstance(record, RunningRecord), "only a record in progress has an offset"
    offer = decode(data[offset:], storage_key, sealer)
    if not isinstance(offer, CompletedRecord):
        raise RecordUnreadable("record is damaged: what a late owner offers is not a response")
    return offer


def decode_summary(
    head: bytes, storage_key: str = "", sealer: Sealer | None = None
) -> RunningRecord | ReleasedRecord | CompletedSummary:
    """Read a record from its beginning, so that its body need not be fetched.

    The other parameters are those of ``decode``.

    :param head: its first ``HEAD_SIZE`` bytes.
    :raises RecordUnreadable: as ``decode`` does.
    """
    if head[STATE] != COMPLETED or head[0] != VERSION:
        record = decode(head, storage_key, sealer)
        assert not isinstance(record, CompletedRecord), "completed records are read below"
        return record
    try:
        _, _, _, attempt, *_ = HEADER.unpack_from(head)
        payload = head[HEADER_SIZE:]
        if sealer is not None:
            payload = open_record(head[:HEADER_SIZE], payload, storage_key, sealer)
        # A long endpoint may end beyond the head.
        status, time, *rest = unpack_first(payload, 5)
        _, method, endpoint = (*rest, b"", "", "")[:3]
        _require(attempt > 0 and is_status(status))
        _require(_are_strings(method, endpoint) and _is_time(time))
    except _DECODE_ERRORS as error:
        raise _damaged(head, sealer, error) from error
    return CompletedSummary(attempt, status, time, method, endpoint)


def _are_strings(*values: object) -> bool:
    return all(type(value) is str for value in values)


def _is_time(time: object) -> bool:
    return type(time) is float and 0 <= time < _YEAR_10000


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError("it is not what this package writes")
