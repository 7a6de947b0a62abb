"""Sealed records: what follows their header, encrypted; ``record_format`` has the layout."""

from __future__ import annotations

from flask_idempotent._record_header import (
    COMPLETED,
    DIED,
    FINGERPRINT,
    HEAD_SIZE,
    HEADER_SIZE,
    OWNER,
    RELEASED,
    STATE,
)
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.sealing import MARK, OVERHEAD, Sealer

_SEAL_SIZE = len(MARK) + OVERHEAD
#: How much of a sealed response is in the first bytes.
_FIRST_SIZE = HEAD_SIZE - HEADER_SIZE - _SEAL_SIZE


def seal_record(header: bytes, payload: bytes, storage_key: str, sealer: Sealer) -> bytes:
    """Return a header and what follows it, sealed."""
    owner = header[OWNER]
    if header[STATE] != COMPLETED:
        return header + sealer.seal(payload, owner, "run", storage_key, header[FINGERPRINT])
    first, rest = payload[:_FIRST_SIZE], payload[_FIRST_SIZE:]
    data = header + MARK + sealer.encrypt(first, owner, "response", storage_key, header)
    return data + sealer.encrypt(rest, owner, "rest", storage_key, data) if rest else data


def open_record(header: bytes, payload: bytes, storage_key: str, sealer: Sealer) -> bytes:
    """Open what follows a header, or the beginning of it.

    :raises RecordUnreadable: when no secret opens it, or it lacks a seal and must have one.
    """
    if not sealer.is_sealed(payload):
        return payload
    if header[STATE] == COMPLETED:
        return _open_response(header, payload, storage_key, sealer)
    opened, sealed_by = sealer.open(payload, "run", storage_key, header[FINGERPRINT])
    # A run that decides, and its tombstone, keep what the run that died has sealed.
    if sealed_by != header[OWNER] and header[STATE] != RELEASED and not any(header[DIED]):
        raise RecordUnreadable("record is damaged: its seal is that of another run")
    return opened


def _open_response(header: bytes, payload: bytes, storage_key: str, sealer: Sealer) -> bytes:
    owner, end = header[OWNER], _FIRST_SIZE + _SEAL_SIZE
    first, rest = payload[:end], payload[end:]
    opened = sealer.decrypt(first[len(MARK) :], owner, "response", storage_key, header)
    if rest:
        opened += sealer.decrypt(rest, owner, "rest", storage_key, header + first)
    return opened
