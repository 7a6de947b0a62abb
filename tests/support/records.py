"""A record of each state, and reading records as a store does."""

from __future__ import annotations

from flask_idempotent._record_header import HEAD_SIZE
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.record_format import decode, decode_summary
from flask_idempotent.records import (
    CompletedRecord,
    CompletedSummary,
    Record,
    ReleasedRecord,
    RunningRecord,
)
from tests.support.hostile_records import FINGERPRINT, OWNER

_RUN = ("web-1", 4711, 1.5, "POST", "orders")
RUNNING = RunningRecord(OWNER, FINGERPRINT, 3, 210_000, *_RUN, 2)
RELEASED = ReleasedRecord(OWNER, FINGERPRINT, 3, *_RUN, 2)
COMPLETED = CompletedRecord(
    OWNER, FINGERPRINT, 3, 201, (("A", "1"), ("A", "2")), b"\x00body\xff", 2.5,
    method="POST", endpoint="orders", operation=b"m" * 16, session=b"thanks",
)  # fmt: skip
MEBIBYTE = 1024 * 1024


def expanded(record: Record) -> CompletedRecord:
    """The completed record that was given to the store: its body is not compressed."""
    assert isinstance(record, CompletedRecord)
    body = None if record.body is None else record.whole_body(MEBIBYTE)
    return record._replace(body=body, compress=False)


def read(data: bytes) -> Record | None:
    """Decode a record with its body; None where it is unreadable."""
    try:
        record = decode(data)
        return expanded(record) if isinstance(record, CompletedRecord) else record
    except RecordUnreadable:
        return None


def read_summary(data: bytes) -> RunningRecord | ReleasedRecord | CompletedSummary:
    """Decode a record from its beginning."""
    return decode_summary(data[:HEAD_SIZE])
