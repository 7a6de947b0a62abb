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
``[status, method, endpoint, headers, body, operation, time]``. The body is octets, or
``[codec, octets]`` where it is kept compressed; nil is the marker of a response that was not kept.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.packing import DAMAGE, pack, unpack, unpack_first

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


class InProgress(NamedTuple):
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


class Released(NamedTuple):
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


class Completed(NamedTuple):
    """A key whose view has answered.

    :param owner: token of the run that answered.
    :param fingerprint: digest of the request.
    :param attempt: which run answered.
    :param status: the status code, or the whole status line where its reason is not the usual one.
    :param headers: names and values in their order, repetitions included.
    :param body: the octets, or None for a response that was not kept.
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
    body: bytes | None = None
    time: float = 0.0
    compress: bool = False
    method: str = ""
    endpoint: str = ""
    operation: bytes = b""

    @property
    def code(self) -> int:
        """The status code, such as 201."""
        return _code(self.status)


Record = InProgress | Completed | Released


class Answered(NamedTuple):
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


#: How many of a record's first and last octets ``decode_ends`` needs.
HEAD_SIZE, TAIL_SIZE = 1024, 9


def encode(record: Record, *, offer: int = 0) -> bytes:
    """Turn a record into bytes.

    :param offer: where a late owner's response begins, see the table above.
    """
    grace, first = 0, record.attempt
    payload: list[Any]
    if isinstance(record, Completed):
        state, headers = _COMPLETED, [part for pair in record.headers for part in pair]
        body = _compressed(record.body) if record.compress and record.body else record.body
        payload = [
            record.status, record.method, record.endpoint, headers, body, record.operation,
            record.time,
        ]  # fmt: skip
    else:
        state, first = _RELEASED, record.first_attempt
        if isinstance(record, InProgress):
            state, grace = _IN_PROGRESS, record.grace
        payload = [record.method, record.endpoint, record.host, record.pid, record.started]
    header = _HEADER.pack(
        VERSION, state, grace, record.attempt, offer, record.owner, record.fingerprint, first
    )
    return header + pack(payload)


def decode(data: bytes) -> Record:
    """Turn bytes into a record.

    :raises RecordUnreadable: on an unknown version or damaged bytes.
    """
    try:
        version, state, grace, attempt, offer, owner, fingerprint, first = _HEADER.unpack_from(data)
        if version != VERSION:
            raise RecordUnreadable(
                f"record version {version} is unknown, this release reads {VERSION}"
            )
        payload = data[HEADER_SIZE : offer or None]
        if state == _COMPLETED:
            return Completed(owner, fingerprint, attempt, *_response(payload))
        if state == _IN_PROGRESS:
            return InProgress(owner, fingerprint, attempt, grace, *_origin(payload), first)
        if state == _RELEASED:
            return Released(owner, fingerprint, attempt, *_origin(payload), first)
    except _DAMAGE as error:
        raise RecordUnreadable(f"record is damaged: {error}") from error
    raise RecordUnreadable(f"record state {state!r} is unknown")


_DAMAGE = (*DAMAGE, struct.error, zlib.error)


def _compressed(body: bytes) -> bytes | tuple[str, bytes]:
    smaller = zlib.compress(body, _ZLIB_LEVEL)
    return (_ZLIB, smaller) if len(smaller) < len(body) else body


def _body(kept: Any) -> bytes | None:
    if kept is None or type(kept) is bytes:
        return kept
    _require(type(kept) is list)
    codec, octets = kept
    if codec != _ZLIB:
        raise ValueError(f"the codec {codec!r} is unknown")
    return zlib.decompress(octets)


def decode_ends(head: bytes, tail: bytes) -> InProgress | Released | Answered:
    """Tell what a record is from its ends, so that nobody fetches a body that nobody reads.

    :param head: its first ``HEAD_SIZE`` octets.
    :param tail: its last ``TAIL_SIZE`` octets.
    :raises RecordUnreadable: as ``decode`` does.
    """
    if head[1:2] != _COMPLETED or head[0] != VERSION:
        record = decode(head)
        assert not isinstance(record, Completed), "the completed ones are seen to below"
        return record
    try:
        _, _, _, attempt, *_ = _HEADER.unpack_from(head)
        # Events are cut off behind the status.
        status, method, endpoint = (*unpack_first(head[HEADER_SIZE:], 3), "", "")[:3]
        time = unpack(tail)
        _require(_are_texts(method, endpoint) and _is_status(status) and type(time) is float)
    except (*DAMAGE, struct.error) as error:
        raise RecordUnreadable(f"record is damaged: {error}") from error
    return Answered(attempt, status, time, method, endpoint)


def abridge(record: Record) -> InProgress | Released | Answered:
    """Leave out headers and body."""
    if isinstance(record, Completed):
        return Answered(record.attempt, record.status, record.time, record.method, record.endpoint)
    return record


_Origin = tuple[str, int, float, str, str]


def _origin(payload: bytes) -> _Origin:
    method, endpoint, host, pid, started = unpack(payload)
    _require(_are_texts(method, endpoint, host) and type(pid) is int and type(started) is float)
    return host, pid, started, method, endpoint


_Headers = tuple[tuple[str, str], ...]
_Response = tuple[int | str, _Headers, bytes | None, float, bool, str, str, bytes]


def _response(payload: bytes) -> _Response:
    status, method, endpoint, flat, kept, operation, time = unpack(payload)
    _require(
        _are_texts(method, endpoint)
        and _is_status(status)
        and type(operation) is bytes
        and type(time) is float
        and type(flat) is list
        and _TEXTS.issuperset(map(type, flat))
    )
    parts = iter(flat)
    headers = tuple(zip(parts, parts, strict=True))
    return status, headers, _body(kept), time, False, method, endpoint, operation


_TEXTS = frozenset({str})


def _are_texts(*values: object) -> bool:
    return _TEXTS.issuperset(map(type, values))


def _is_status(status: object) -> bool:
    # Werkzeug takes any number from a view, and 0 where it gave a phrase alone.
    if type(status) is str:
        code = status.partition(" ")[0]
        return code.isascii() and code.isdecimal()
    return type(status) is int


def _require(true: bool) -> None:
    if not true:
        raise ValueError("its parts have unexpected types")
