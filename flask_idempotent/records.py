"""Records: what the store keeps for a key, and its bytes.

A record is a fixed header, which the Lua scripts read in place, followed by msgpack. Nothing is
ever pickled. The header, big-endian:

====== ====== ====================================================================
offset length meaning
====== ====== ====================================================================
0      1      version of this layout
1      1      state: ``p`` in progress, ``c`` completed, ``r`` released
2      8      milliseconds that the record is kept beyond its lease (0 unless in progress)
10     4      attempt: 1 on a first run, one more for each later one
14     4      where a late owner's response begins in this record, 0 for none
18     16     owner token
34     16     fingerprint of the request
50     4      attempt from which on the key belongs to this fingerprint
54            msgpack, see below
====== ====== ====================================================================

The end of the lease stands nowhere: it is over when the record has no more than those milliseconds
left to live. So a renewal writes nothing into the record, and the store's clock alone counts.

Behind the header of a record in progress, and of a released one, which keeps what it had, stands
``[method, endpoint, host, pid, started]``; behind that of a completed one
``[status, operation, method, endpoint, headers, body, time]``. The body is octets, or
``[codec, octets, size]`` where it is kept compressed; nil is the marker of a response that was not
kept.

Somebody else may write to the store, so a record that is read has nothing that this package would
not write: see ``decode``.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

from flask_idempotent._http_syntax import are_fields, is_status
from flask_idempotent._msgpack import DAMAGE, pack, unpack, unpack_first
from flask_idempotent.errors import RecordUnreadable

VERSION = 1
OWNER_SIZE = FINGERPRINT_SIZE = 16

#: The one codec that is known (RFC 1950).
_ZLIB = "zlib"
#: More than the fastest costs several times as much, for a few per cent.
_ZLIB_LEVEL = 1

_IN_PROGRESS = b"p"
_COMPLETED = b"c"
_RELEASED = b"r"
_HEADER = struct.Struct(f">BcQII{OWNER_SIZE}s{FINGERPRINT_SIZE}sI")

HEADER_SIZE = _HEADER.size
#: Where the owner token stands in a record.
OWNER_SLICE = slice(18, 18 + OWNER_SIZE)

#: Up to here Lua counts milliseconds exactly.
_GRACE_END = 1 << 53
#: Where the calendar of ``datetime`` ends, in seconds since 1970.
_YEAR_10000 = 253_402_300_800


class RunningRecord(NamedTuple):
    """A key whose view is running, or whose owner died.

    :param owner: random token of the run.
    :param fingerprint: digest of the request.
    :param attempt: 1 on a first run, higher after an earlier one.
    :param grace: milliseconds that the record is kept beyond its lease.
    :param host: name of the machine that runs the view.
    :param pid: process that runs the view.
    :param started: wall clock when the run began, seconds since 1970; never compared by the store.
    :param method: the request's method.
    :param endpoint: the endpoint of its route, for people.
    :param first_attempt: the attempt from which on the key belongs to this fingerprint. What
        earlier runs answer is not stored any more.
    """

    owner: bytes
    fingerprint: bytes
    attempt: int = 1
    grace: int = 0
    host: str = ""
    pid: int = 0
    started: float = 0.0
    method: str = ""
    endpoint: str = ""
    first_attempt: int = 1


class ReleasedRecord(NamedTuple):
    """A key that was given up while an earlier owner may still run: a tombstone.

    It binds nobody. It keeps the attempt number from beginning again, and the place of a response
    that comes late.

    :param owner: token of the run that was given up.
    :param fingerprint: digest of its request.
    :param attempt: its number; the next run has one more.
    :param host: name of the machine that ran the view.
    :param pid: process that ran the view.
    :param started: wall clock when that run began, seconds since 1970.
    :param method: the request's method.
    :param endpoint: the endpoint of its route, for people.
    :param first_attempt: as in a record in progress.
    """

    owner: bytes
    fingerprint: bytes
    attempt: int
    host: str = ""
    pid: int = 0
    started: float = 0.0
    method: str = ""
    endpoint: str = ""
    first_attempt: int = 1


class CompressedBody(NamedTuple):
    """A body as it is kept compressed.

    :param octets: a zlib stream (RFC 1950).
    :param size: how many octets it was made of.
    """

    octets: bytes
    size: int

    def expand(self, limit: int) -> bytes:
        """Get the body itself.

        :param limit: how many octets it may have.
        :raises RecordUnreadable: when it has more, or not what the record says.
        """
        if self.size > limit:
            raise RecordUnreadable(f"its body of {self.size} octets is larger than max_body")
        stream = zlib.decompressobj()
        try:
            # A few octets may swell to any size: one more than there should be is enough to know.
            body = stream.decompress(self.octets, self.size + 1)
        except zlib.error as error:
            raise RecordUnreadable(f"its body is damaged: {error}") from error
        if len(body) != self.size or not stream.eof or stream.unused_data:
            raise RecordUnreadable("its body has another size than the record says")
        return body


class CompletedRecord(NamedTuple):
    """A key whose view has answered.

    :param owner: token of the run that answered.
    :param fingerprint: digest of the request.
    :param attempt: which run answered.
    :param status: the status code, or the whole status line where its reason is not the usual one.
    :param headers: names and values in their order, repetitions included.
    :param body: the octets, perhaps compressed, or None for a response that was not kept.
    :param time: wall clock of the answer, seconds since 1970; for people, never compared.
    :param compress: whether the body is to be kept compressed, where that makes it smaller.
    :param method: the request's method.
    :param endpoint: the endpoint of its route, for people.
    :param operation: digest of the request's method and path, where a corrected request with the
        same ones may take the key; empty where the response binds the key.
    """

    owner: bytes
    fingerprint: bytes
    attempt: int
    status: int | str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | CompressedBody | None = None
    time: float = 0.0
    compress: bool = False
    method: str = ""
    endpoint: str = ""
    operation: bytes = b""

    @property
    def code(self) -> int:
        """The status code, such as 201."""
        return _code(self.status)

    @property
    def body_size(self) -> int:
        """How many octets the body has, 0 where it was not kept."""
        return self.body.size if isinstance(self.body, CompressedBody) else len(self.body or b"")

    def whole_body(self, limit: int) -> bytes:
        """The body's octets, none where it was not kept.

        :param limit: how many octets a compressed body may have.
        :raises RecordUnreadable: when it has more, or is damaged.
        """
        if isinstance(self.body, CompressedBody):
            return self.body.expand(limit)
        return self.body or b""


Record = RunningRecord | CompletedRecord | ReleasedRecord


class CompletedSummary(NamedTuple):
    """A completed record without its headers and body, as lists of records have it.

    :param attempt: which run answered.
    :param status: the status code, or the whole status line where its reason is not the usual one.
    :param time: wall clock of the answer, seconds since 1970; for people, never compared.
    :param method: the request's method.
    :param endpoint: the endpoint of its route, for people.
    """

    attempt: int
    status: int | str
    time: float
    method: str = ""
    endpoint: str = ""

    @property
    def code(self) -> int:
        """The status code, such as 201."""
        return _code(self.status)


def _code(status: int | str) -> int:
    return status if isinstance(status, int) else int(status.partition(" ")[0])


#: How many of a record's first and last octets ``decode_summary`` needs.
HEAD_SIZE, TAIL_SIZE = 1024, 9


def encode(record: Record, *, offer: int = 0) -> bytes:
    """Turn a record into bytes.

    :param offer: where a late owner's response begins, see the table above.
    """
    grace, first = 0, record.attempt
    payload: list[Any]
    if isinstance(record, CompletedRecord):
        state, headers = _COMPLETED, [part for pair in record.headers for part in pair]
        payload = [
            record.status, record.operation, record.method, record.endpoint, headers,
            _kept_body(record), record.time,
        ]  # fmt: skip
    else:
        state, first = _RELEASED, record.first_attempt
        if isinstance(record, RunningRecord):
            state, grace = _IN_PROGRESS, record.grace
        payload = [record.method, record.endpoint, record.host, record.pid, record.started]
    header = _HEADER.pack(
        VERSION, state, grace, record.attempt, offer, record.owner, record.fingerprint, first
    )
    return header + pack(payload)


def decode(data: bytes) -> Record:
    """Turn bytes into a record.

    It has nothing that this package would not write: status and headers can be sent, and times,
    sizes and numbers make sense.

    :raises RecordUnreadable: on an unknown version or damaged bytes.
    """
    try:
        version, state, grace, attempt, offer, owner, fingerprint, first = _HEADER.unpack_from(data)
        if version != VERSION:
            raise RecordUnreadable(
                f"record version {version} is unknown, this release reads {VERSION}"
            )
        _require(0 < first <= attempt and grace < _GRACE_END)
        if state == _IN_PROGRESS:
            # A late owner's response stands behind it, or was cut off.
            _require(not offer or HEADER_SIZE < offer <= len(data))
            payload = data[HEADER_SIZE : offer or None]
            return RunningRecord(owner, fingerprint, attempt, grace, *_origin(payload), first)
        _require(not grace and not offer)
        if state == _COMPLETED:
            return CompletedRecord(owner, fingerprint, attempt, *_response(data[HEADER_SIZE:]))
        if state == _RELEASED:
            return ReleasedRecord(owner, fingerprint, attempt, *_origin(data[HEADER_SIZE:]), first)
    except _DAMAGE as error:
        raise RecordUnreadable(f"record is damaged: {error}") from error
    raise RecordUnreadable(f"record state {state!r} is unknown")


_DAMAGE = (*DAMAGE, struct.error)


def _kept_body(record: CompletedRecord) -> bytes | tuple[str, bytes, int] | None:
    body = record.body
    if isinstance(body, CompressedBody):
        return (_ZLIB, *body)
    if body and record.compress:
        smaller = zlib.compress(body, _ZLIB_LEVEL)
        if len(smaller) < len(body):
            return _ZLIB, smaller, len(body)
    return body


def _body(kept: Any) -> bytes | CompressedBody | None:
    if kept is None or type(kept) is bytes:
        return kept
    _require(type(kept) is list)
    codec, octets, size = kept
    _require(codec == _ZLIB and type(octets) is bytes and type(size) is int and size >= 0)
    return CompressedBody(octets, size)


def decode_summary(head: bytes, tail: bytes) -> RunningRecord | ReleasedRecord | CompletedSummary:
    """Tell what a record is from its ends, so that nobody fetches a body that nobody reads.

    :param head: its first ``HEAD_SIZE`` octets.
    :param tail: its last ``TAIL_SIZE`` octets.
    :raises RecordUnreadable: as ``decode`` does.
    """
    if head[1:2] != _COMPLETED or head[0] != VERSION:
        record = decode(head)
        assert not isinstance(record, CompletedRecord), "the completed ones are seen to below"
        return record
    try:
        _, _, _, attempt, *_ = _HEADER.unpack_from(head)
        # A long endpoint may end behind the head.
        status, _, method, endpoint = (*unpack_first(head[HEADER_SIZE:], 4), b"", "", "")[:4]
        time = unpack(tail)
        _require(attempt > 0 and is_status(status))
        _require(_are_texts(method, endpoint) and _is_time(time))
    except _DAMAGE as error:
        raise RecordUnreadable(f"record is damaged: {error}") from error
    return CompletedSummary(attempt, status, time, method, endpoint)


def summary_of(record: Record) -> RunningRecord | ReleasedRecord | CompletedSummary:
    """Leave out headers and body."""
    if isinstance(record, CompletedRecord):
        return CompletedSummary(
            record.attempt, record.status, record.time, record.method, record.endpoint
        )
    return record


_Origin = tuple[str, int, float, str, str]


def _origin(payload: bytes) -> _Origin:
    method, endpoint, host, pid, started = unpack(payload)
    _require(_are_texts(method, endpoint, host) and _is_time(started))
    _require(type(pid) is int and 0 <= pid < 1 << 32)
    return host, pid, started, method, endpoint


_Headers = tuple[tuple[str, str], ...]
_Response = tuple[int | str, _Headers, bytes | CompressedBody | None, float, bool, str, str, bytes]


def _response(payload: bytes) -> _Response:
    status, operation, method, endpoint, flat, kept, time = unpack(payload)
    _require(
        is_status(status)
        and _are_texts(method, endpoint)
        and type(flat) is list
        and are_fields(flat)
        and type(operation) is bytes
        and _is_time(time)
    )
    parts = iter(flat)
    headers = tuple(zip(parts, parts, strict=True))
    return status, headers, _body(kept), time, False, method, endpoint, operation


_TEXTS = frozenset({str})


def _are_texts(*values: object) -> bool:
    return _TEXTS.issuperset(map(type, values))


def _is_time(time: object) -> bool:
    return type(time) is float and 0 <= time < _YEAR_10000


def _require(true: bool) -> None:
    if not true:
        raise ValueError("it has what this package does not write")
