"""The row of an answer: its columns, or a sealed record in one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flask_idempotent._http_syntax import check_response
from flask_idempotent.engine.transactions import Answer
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.record_format import decode, encode
from flask_idempotent.records import CompletedRecord, CompressedBody
from flask_idempotent.sealing import NOT_OPENED, Sealer

#: The columns of a row by their names, and ``ttl_ms``.
Row = Mapping[str, Any]

#: The status of a row whose body is a sealed record.
_SEALED = "sealed"


def values_of(answer: Answer, sealer: Sealer | None = None) -> Row:
    """The values of an answer's row, except its times, which are the database's.

    :param sealer: seals the response; None to leave it readable.
    """
    record, body = answer.record, answer.record.body
    if isinstance(body, CompressedBody):
        record = record._replace(body=body.expand(body.size))
    columns: dict[str, Any] = {
        "storage_key": answer.storage_key,
        "fingerprint": record.fingerprint,
        "owner": record.owner,
        "attempt": record.attempt,
        "ttl_ms": answer.ttl_ms,
    }
    if sealer is None or not sealer.seals:
        return columns | _response_of(record)
    # A run without the store is attempt 0, which no record is.
    record = record._replace(attempt=max(1, record.attempt), compress=False)
    return columns | {
        "status": _SEALED,
        "headers": "[]",
        "body": encode(record, answer.storage_key, sealer),
        "session": None,
        "method": "",
        "endpoint": "",
        "operation": b"",
    }


def _response_of(record: CompletedRecord) -> dict[str, Any]:
    return {
        "status": str(record.status),
        "headers": json.dumps(record.headers, separators=(",", ":")),
        "body": record.body,
        "session": record.session or None,
        "method": record.method,
        "endpoint": record.endpoint,
        "operation": record.operation,
    }


def answer_of(row: Row, sealer: Sealer | None = None, *, must_be_sealed: bool = False) -> Answer:
    """The answer of a row.

    :param row: the table's columns, and ``ttl_ms``.
    :param sealer: opens it where it is sealed.
    :param must_be_sealed: whether the sealer decides about a row without a seal.
    :raises RecordUnreadable: when its response cannot be sent, or it cannot be opened.
    """
    storage_key = row["storage_key"]
    try:
        if row["status"] == _SEALED:
            record = _open(row, sealer)
        else:
            if must_be_sealed and sealer is not None:
                sealer.check_accepts_unsealed()
            record = _record_of(row)
            check_response(record.status, record.headers)
    except (TypeError, ValueError, RecordUnreadable) as error:
        raise RecordUnreadable(f"the row of {storage_key} cannot be read: {error}") from error
    return Answer(storage_key, record, row["ttl_ms"])


def _open(row: Row, sealer: Sealer | None) -> CompletedRecord:
    if sealer is None:
        raise RecordUnreadable(NOT_OPENED)
    record = decode(bytes(row["body"]), row["storage_key"], sealer)
    columns = (bytes(row["owner"]), bytes(row["fingerprint"]))
    if not isinstance(record, CompletedRecord) or record[:2] != columns:
        raise RecordUnreadable("it is sealed for another run")
    return record


def _record_of(row: Row) -> CompletedRecord:
    status = row["status"]
    return CompletedRecord(
        owner=bytes(row["owner"]),
        fingerprint=bytes(row["fingerprint"]),
        attempt=row["attempt"],
        status=int(status) if status.isdecimal() else status,
        headers=tuple((name, value) for name, value in json.loads(row["headers"])),
        body=None if row["body"] is None else bytes(row["body"]),
        time=row["created"] / 1000,
        method=row["method"],
        endpoint=row["endpoint"],
        operation=bytes(row["operation"]),
        session=bytes(row["session"] or b""),
    )
