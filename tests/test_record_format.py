"""The bytes of records: there and back, and each part where scripts read it."""

from __future__ import annotations

import re
import struct

import msgpack
import pytest
from hypothesis import given

from flask_idempotent import _record_header, record_format
from flask_idempotent._record_header import HEADER_SIZE
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.record_format import decode, decode_offer, encode
from flask_idempotent.records import (
    CompletedRecord,
    CompletedSummary,
    Record,
    ReleasedRecord,
    RunningRecord,
    summary_of,
)
from tests.support.hostile_records import (
    COMPLETED_RECORDS,
    FINGERPRINT,
    OWNER,
    RECORDS,
    RELEASED_RECORDS,
    RUNNING_RECORDS,
    completed,
)
from tests.support.records import COMPLETED, RELEASED, RUNNING, expanded, read_summary


class TestRoundTrip:
    @given(RUNNING_RECORDS | RELEASED_RECORDS)
    def test_running(self, record: RunningRecord | ReleasedRecord) -> None:
        """A running and a released record are read as they were written."""
        assert decode(encode(record)) == record

    @given(COMPLETED_RECORDS)
    def test_r1_completed(self, record: CompletedRecord) -> None:
        """R1: a completed record is read as it was written, its headers in their order."""
        assert expanded(decode(encode(record))) == record._replace(compress=False)

    @given(COMPLETED_RECORDS)
    def test_twice(self, record: CompletedRecord) -> None:
        """A record that was read is written as the same bytes, its body compressed or not."""
        data = encode(record)
        assert encode(decode(data)) == data

    @given(COMPLETED_RECORDS)
    def test_strings_and_bytes_stay_apart(self, record: CompletedRecord) -> None:
        """Headers are read as strings and the body as bytes, empty or not."""
        again = decode(encode(record))
        assert isinstance(again, CompletedRecord)
        assert all(type(part) is str for pair in again.headers for part in pair)
        assert type(expanded(again).body) is type(record.body)
        assert again.body_size == len(record.body or b"")

    @given(RUNNING_RECORDS, COMPLETED_RECORDS)
    def test_offer_is_not_read(self, record: RunningRecord, late: CompletedRecord) -> None:
        """A late owner's response behind a record does not change what is read of the record."""
        offer = len(encode(record))
        data = encode(record, offer=offer) + encode(late)
        assert decode(data) == record
        assert expanded(decode(data[offer:])) == late._replace(compress=False)

    def test_offer(self) -> None:
        """A late owner's response is read where there is one, and what is none is damage."""
        offset = len(encode(RUNNING))
        data = encode(RUNNING, offer=offset)
        assert decode_offer(data + encode(COMPLETED)) == COMPLETED
        assert decode_offer(data) is decode_offer(encode(RUNNING)) is None
        assert decode_offer(encode(COMPLETED)) is decode_offer(encode(RELEASED)) is None
        with pytest.raises(RecordUnreadable, match="not a response"):
            decode_offer(data + encode(RUNNING))

    def test_body_of_a_mebibyte(self) -> None:
        """A body of the default ``max_body`` is read as it was written."""
        record = CompletedRecord(OWNER, FINGERPRINT, 1, 200, (), bytes(range(256)) * 4096)
        assert decode(encode(record)) == record


PARTS = ("STATE", "GRACE", "ATTEMPT", "OFFER", "OWNER", "FINGERPRINT", "FIRST_ATTEMPT", "DIED")


class TestLayout:
    def test_header(self) -> None:
        """Each part of the header has its documented offset."""
        data = encode(RUNNING, offer=9)
        assert data[0] == _record_header.VERSION == 1
        assert data[_record_header.STATE] == data[1:2] == _record_header.IN_PROGRESS == b"p"
        assert data[_record_header.GRACE] == data[2:10] == struct.pack(">Q", 210_000)
        assert data[_record_header.ATTEMPT] == data[10:14] == struct.pack(">I", 3)
        assert data[_record_header.OFFER] == data[14:18] == struct.pack(">I", 9)
        assert data[_record_header.OWNER] == data[18:34] == OWNER
        assert data[_record_header.FINGERPRINT] == data[34:50] == FINGERPRINT
        assert data[_record_header.FIRST_ATTEMPT] == data[50:54] == struct.pack(">I", 2)
        assert data[_record_header.DIED] == data[54:58] == bytes(4)
        assert HEADER_SIZE == 58
        assert msgpack.unpackb(data[58:]) == ["POST", "orders", "web-1", 4711, 1.5]

    def test_held(self) -> None:
        """A held record has a state of its own, and the number of the attempt that died."""
        data = encode(RUNNING._replace(died=2, held=True))
        assert data[_record_header.STATE] == _record_header.HELD == b"h"
        assert data[_record_header.DIED] == struct.pack(">I", 2)
        assert encode(RUNNING._replace(died=2))[_record_header.STATE] == b"p"

    def test_documented_offsets(self) -> None:
        """The module's table gives the header's slices, and the same positions in Lua."""
        rows = re.findall(r"^(\d+) +(\d+) +(\d+)(?: to (\d+))? ", record_format.__doc__ or "", re.M)
        parts = [slice(0, 1), *(getattr(_record_header, name) for name in PARTS)]
        assert [(int(offset), int(length)) for offset, length, _, _ in rows] == [
            (part.start, part.stop - part.start) for part in parts
        ]
        assert [(int(first), int(last or first)) for _, _, first, last in rows] == [
            (part.start + 1, part.stop) for part in parts
        ]

    def test_completed(self) -> None:
        """A completed record has its own state, no grace, and the response behind the header."""
        data = encode(COMPLETED)
        assert data[1:2] == b"c"
        assert data[2:10] == bytes(8)
        assert msgpack.unpackb(data[58:]) == [
            201, 2.5, b"m" * 16, "POST", "orders", ["A", "1", "A", "2"], b"\x00body\xff", b"thanks",
        ]  # fmt: skip

    def test_released(self) -> None:
        """A released record differs from a running one in its state, and has no grace."""
        running, released = encode(RUNNING), encode(RELEASED)
        assert released[:10] == b"\x01r" + bytes(8)
        assert released[10:] == running[10:]

    def test_version_1_stays_readable(self) -> None:
        """The bytes of a record of layout 1 are read by every release."""
        data = bytes.fromhex("01 70 0000000000033450 00000003 00000000")
        data += OWNER + FINGERPRINT + bytes.fromhex("00000002 00000000")
        data += b"\x95\xa4POST\xa6orders\xa5web-1"
        data += b"\xcd\x12\x67\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"
        assert decode(data) == RUNNING


class TestCompression:
    TEXT = b'{"order": 1, "state": "open"}' * 1000

    def completed(self, body: bytes | None, *, compress: bool = True) -> CompletedRecord:
        return CompletedRecord(OWNER, FINGERPRINT, 1, 201, (), body, 2.5, compress)

    def test_text(self) -> None:
        """Text is kept in a fraction of its size, with the name of the codec, and is read again."""
        data = encode(self.completed(self.TEXT))
        assert len(data) < len(self.TEXT) / 10
        assert b"zlib" in data[HEADER_SIZE : HEADER_SIZE + 30]
        assert expanded(decode(data)) == self.completed(self.TEXT, compress=False)

    @pytest.mark.parametrize("body", [None, b"", b"ab", bytes(range(256))])
    def test_no_gain(self, body: bytes | None) -> None:
        """A body that compression does not make smaller is kept as it is."""
        as_it_is = self.completed(body, compress=False)
        assert encode(self.completed(body)) == encode(as_it_is)
        assert decode(encode(as_it_is)) == as_it_is

    def test_summary(self) -> None:
        """The summary of a compressed record is that of any other."""
        data = encode(self.completed(self.TEXT))
        assert read_summary(data) == CompletedSummary(1, 201, 2.5)

    @pytest.mark.parametrize(
        "body",
        [["zstd", b"", 0], ["zlib", b""], ["zlib", "text", 4], ["zlib", b"", -1],
         ["zlib", b"", "0"], ["zlib", b"", 1.0], ["zlib"], [], "text", {"zlib": b""}],
    )  # fmt: skip
    def test_unreadable(self, body: object) -> None:
        """A body with an unknown codec, or in another shape, is unreadable."""
        with pytest.raises(RecordUnreadable):
            decode(completed(body=body))


class TestSummary:
    @given(RECORDS, COMPLETED_RECORDS)
    def test_equals_that_of_the_whole(self, record: Record, late: CompletedRecord) -> None:
        """A summary is read from a record's beginning, with or without a late owner's response."""
        assert read_summary(encode(record)) == summary_of(record)
        if isinstance(record, RunningRecord):
            data = encode(record)
            assert read_summary(encode(record, offer=len(data)) + encode(late)) == record

    def test_body_of_a_mebibyte(self) -> None:
        """It needs neither the headers nor the body of a large record."""
        headers = (("Link", "x" * 1000),) * 10
        record = CompletedRecord(OWNER, FINGERPRINT, 3, "299 Odd", headers, b"\xc0" * 2**20, 2.5)
        assert read_summary(encode(record)) == CompletedSummary(3, "299 Odd", 2.5)
        assert CompletedSummary(3, "299 Odd", 2.5).status_code == 299

    @pytest.mark.parametrize("data", [b"", b"\x01c", encode(COMPLETED)[:60], b"\x02" + b"c" * 99])
    def test_damaged(self, data: bytes) -> None:
        """A damaged beginning is an error, as damaged records are."""
        with pytest.raises(RecordUnreadable):
            read_summary(data)
