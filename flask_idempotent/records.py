"""Records: what the store keeps for a key, and its bytes.

A record is a fixed header, which the Lua scripts read in place, followed by msgpack. Nothing is
ever pickled. The header, big-endian:

====== ====== ====================================================================
offset length meaning
====== ====== ====================================================================
0      1      version of this layout
1      1      state: ``p`` in progress, ``c`` completed
2      8      milliseconds that the record is kept beyond its lease (0 when completed)
10     4      attempt: 1 on a first run, one more for each take-over
14     4      where a late owner's response begins in this record, 0 for none
18     16     owner token
34     16     fingerprint of the request
50            msgpack: ``[host, pid, started]`` or ``[status, headers, body, time]``
====== ====== ====================================================================

The end of the lease stands nowhere: it is over when the record has no more than those milliseconds
left to live. So a renewal writes nothing into the record, and the store's clock alone counts.

The body is octets, or ``[codec, octets]`` where it is kept compressed; nil is the marker of a
response that was not kept.
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
_HEADER = struct.Struct(f">BcQII{OWNER_SIZE}s{FINGERPRINT_SIZE}s")

HEADER_SIZE = _HEADER.size


class InProgress(NamedTuple):
    """A key whose view is running, or whose owner died.

    :param owner: random token of the run.
    :param fingerprint: digest of the request.
    :param attempt: 1 on a first run, higher after a take-over.
    :param grace: milliseconds that the record is kept beyond its lease.
    :param host: name of the machine that runs the view.
    :param pid: process that runs the view.
    :param started: wall clock when the run began, seconds since 1970; for people, never compared.
    """

    owner: bytes
    fingerprint: bytes
    attempt: int = 1
    grace: int = 0
    host: str = ""
    pid: int = 0
    started: float = 0.0


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
    """

    owner: bytes
    fingerprint: bytes
    attempt: int
    status: int | str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    time: float = 0.0
    compress: bool = False

    @property
    def code(self) -> int:
        """The status code, such as 201."""
        return _code(self.status)


Record = InProgress | Completed


class Answered(NamedTuple):
    """A completed record without its headers and body, as lists of records have it.

    :param attempt: which run answered.
    :param status: the status code, or the whole status line where its reason is not the usual one.
    :param time: wall clock of the answer, seconds since 1970; for people, never compared.
    """

    attempt: int
    status: int | str
    time: float

    @property
    def code(self) -> int:
        """The status code, such as 201."""
        return _code(self.status)


def _code(status: int | str) -> int:
    return status if isinstance(status, int) else int(status.partition(" ")[0])


#: How many of a record's first and last octets ``decode_ends`` needs.
HEAD_SIZE, TAIL_SIZE = 512, 9


def encode(record: Record, *, offer: int = 0) -> bytes:
    """Turn a record into bytes.

    :param offer: where a late owner's response begins, see the table above.
    """
    if isinstance(record, InProgress):
        state, grace = _IN_PROGRESS, record.grace
        payload: list[Any] = [record.host, record.pid, record.started]
    else:
        state, grace = _COMPLETED, 0
        headers = [part for pair in record.headers for part in pair]
        body = _compressed(record.body) if record.compress and record.body else record.body
        payload = [record.status, headers, body, record.time]
    header = _HEADER.pack(
        VERSION, state, grace, record.attempt, offer, record.owner, record.fingerprint
    )
    return header + pack(payload)


def decode(data: bytes) -> Record:
    """Turn bytes into a record.

    :raises RecordUnreadable: on an unknown version or damaged bytes.
    """
    try:
        version, state, grace, attempt, offer, owner, fingerprint = _HEADER.unpack_from(data)
        if version != VERSION:
            raise RecordUnreadable(
                f"record version {version} is unknown, this release reads {VERSION}"
            )
        payload = data[HEADER_SIZE : offer or None]
        if state == _IN_PROGRESS:
            return InProgress(owner, fingerprint, attempt, grace, *_origin(payload))
        if state == _COMPLETED:
            return Completed(owner, fingerprint, attempt, *_response(payload))
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


def decode_ends(head: bytes, tail: bytes) -> InProgress | Answered:
    """Tell what a record is from its ends, so that nobody fetches a body that nobody reads.

    :param head: its first ``HEAD_SIZE`` octets.
    :param tail: its last ``TAIL_SIZE`` octets.
    :raises RecordUnreadable: as ``decode`` does.
    """
    if head[1:2] != _COMPLETED or head[0] != VERSION:
        record = decode(head)
        assert isinstance(record, InProgress), "the completed ones are seen to below"
        return record
    try:
        _, _, _, attempt, *_ = _HEADER.unpack_from(head)
        status, time = unpack_first(head[HEADER_SIZE:]), unpack(tail)
        _require(_is_status(status) and type(time) is float)
    except (*DAMAGE, struct.error) as error:
        raise RecordUnreadable(f"record is damaged: {error}") from error
    return Answered(attempt, status, time)


def abridge(record: Record) -> InProgress | Answered:
    """Leave out headers and body."""
    if isinstance(record, InProgress):
        return record
    return Answered(record.attempt, record.status, record.time)


def _origin(payload: bytes) -> tuple[str, int, float]:
    # A claim's reply carries the header alone.
    host, pid, started = unpack(payload) if payload else ("", 0, 0.0)
    _require(type(host) is str and type(pid) is int and type(started) is float)
    return host, pid, started


def _response(
    payload: bytes,
) -> tuple[int | str, tuple[tuple[str, str], ...], bytes | None, float]:
    status, flat, kept, time = unpack(payload)
    _require(
        _is_status(status)
        and type(time) is float
        and type(flat) is list
        and _TEXTS.issuperset(map(type, flat))
    )
    parts = iter(flat)
    headers = tuple(zip(parts, parts, strict=True))
    return status, headers, _body(kept), time


_TEXTS = frozenset({str})


def _is_status(status: object) -> bool:
    # Werkzeug takes any number from a view, and 0 where it gave a phrase alone.
    if type(status) is str:
        code = status.partition(" ")[0]
        return code.isascii() and code.isdecimal()
    return type(status) is int


def _require(true: bool) -> None:
    if not true:
        raise ValueError("its parts have unexpected types")
