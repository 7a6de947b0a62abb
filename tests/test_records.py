"""Records: their bytes there and back, and what damaged bytes lead to."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.records import (
    HEAD_SIZE,
    HEADER_SIZE,
    TAIL_SIZE,
    CompletedRecord,
    CompletedSummary,
    Record,
    ReleasedRecord,
    RunningRecord,
    decode,
    decode_summary,
    encode,
    summary_of,
)
from tests.support.hostile_records import (
    COMPLETED_RECORDS,
    FINGERPRINT,
    HOSTILE,
    OWNER,
    RECORDS,
    RELEASED_RECORDS,
    RUNNING_RECORDS,
    completed,
    header,
    in_progress,
)

ORIGIN = ("web-1", 4711, 1.5, "POST", "orders")
RUNNING = RunningRecord(OWNER, FINGERPRINT, 3, 210_000, *ORIGIN, 2)
RELEASED = ReleasedRecord(OWNER, FINGERPRINT, 3, *ORIGIN, 2)
ANSWERED = CompletedRecord(
    OWNER, FINGERPRINT, 3, 201, (("A", "1"), ("A", "2")), b"\x00body\xff", 2.5,
    method="POST", endpoint="orders", operation=b"m" * 16,
)  # fmt: skip
MEBIBYTE = 1024 * 1024


def read(data: bytes) -> Record | None:
    """The record with its whole body, or None where it is told to be unreadable."""
    try:
        record = decode(data)
        return whole(record) if isinstance(record, CompletedRecord) else record
    except RecordUnreadable:
        return None


def whole(record: Record) -> CompletedRecord:
    """A record as it was given to the store: its body as it is."""
    assert isinstance(record, CompletedRecord)
    body = None if record.body is None else record.whole_body(MEBIBYTE)
    return record._replace(body=body, compress=False)


class TestRoundTrip:
    @given(RUNNING_RECORDS | RELEASED_RECORDS)
    def test_in_progress(self, record: RunningRecord | ReleasedRecord) -> None:
        """A record in progress, and a released one, is read as it was written."""
        assert decode(encode(record)) == record

    @given(COMPLETED_RECORDS)
    def test_r1_completed(self, record: CompletedRecord) -> None:
        """A completed record is read as it was written, each header in its place."""
        assert whole(decode(encode(record))) == record._replace(compress=False)

    @given(COMPLETED_RECORDS)
    def test_twice(self, record: CompletedRecord) -> None:
        """What was read is written again as it was, its body compressed or not."""
        data = encode(record)
        assert encode(decode(data)) == data

    @given(COMPLETED_RECORDS)
    def test_text_and_octets_stay_apart(self, record: CompletedRecord) -> None:
        """Headers come back as text and the body as octets, empty or not."""
        again = decode(encode(record))
        assert isinstance(again, CompletedRecord)
        assert all(type(part) is str for pair in again.headers for part in pair)
        assert type(whole(again).body) is type(record.body)
        assert again.body_size == len(record.body or b"")

    @given(RUNNING_RECORDS, COMPLETED_RECORDS)
    def test_offer_behind_is_not_read(self, record: RunningRecord, late: CompletedRecord) -> None:
        """A late owner's response in a record leaves the record itself as it is."""
        offer = len(encode(record))
        data = encode(record, offer=offer) + encode(late)
        assert decode(data) == record
        assert whole(decode(data[offer:])) == late._replace(compress=False)

    def test_body_of_a_mebibyte(self) -> None:
        """A body of the default's full size survives."""
        record = CompletedRecord(OWNER, FINGERPRINT, 1, 200, (), bytes(range(256)) * 4096)
        assert decode(encode(record)) == record


class TestLayout:
    def test_header(self) -> None:
        """The header lies where the Lua scripts read it."""
        data = encode(RUNNING, offer=9)
        assert HEADER_SIZE == 54
        assert data[0] == 1
        assert data[1:2] == b"p"
        assert struct.unpack(">Q", data[2:10]) == (210_000,)
        assert struct.unpack(">II", data[10:18]) == (3, 9)
        assert data[18:34] == OWNER
        assert data[34:50] == FINGERPRINT
        assert struct.unpack(">I", data[50:54]) == (2,)
        assert msgpack.unpackb(data[54:]) == ["POST", "orders", "web-1", 4711, 1.5]

    def test_completed(self) -> None:
        """A completed record has its own state, no grace and the response behind the header."""
        data = encode(ANSWERED)
        assert data[1:2] == b"c"
        assert data[2:10] == bytes(8)
        assert msgpack.unpackb(data[54:]) == [
            201, b"m" * 16, "POST", "orders", ["A", "1", "A", "2"], b"\x00body\xff", 2.5,
        ]  # fmt: skip

    def test_released(self) -> None:
        """A released record is one in progress in another state, without a grace."""
        running, released = encode(RUNNING), encode(RELEASED)
        assert released[:10] == b"\x01r" + bytes(8)
        assert released[10:] == running[10:]

    def test_version_1_stays_readable(self) -> None:
        """A record of layout 1, written down here, is read for ever."""
        data = bytes.fromhex("01 70 0000000000033450 00000003 00000000")
        data += OWNER + FINGERPRINT + bytes.fromhex("00000002")
        data += b"\x95\xa4POST\xa6orders\xa5web-1"
        data += b"\xcd\x12\x67\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"
        assert decode(data) == RUNNING


def ends(data: bytes) -> RunningRecord | ReleasedRecord | CompletedSummary:
    return decode_summary(data[:HEAD_SIZE], data[-TAIL_SIZE:])


class TestCompression:
    TEXT = b'{"order": 1, "state": "open"}' * 1000
    ZEROS = zlib.compress(bytes(1000))

    def completed(self, body: bytes | None, *, compress: bool = True) -> CompletedRecord:
        return CompletedRecord(OWNER, FINGERPRINT, 1, 201, (), body, 2.5, compress)

    def test_text(self) -> None:
        """Text is kept in a fraction of its size, with the name of the codec, and comes back."""
        data = encode(self.completed(self.TEXT))
        assert len(data) < len(self.TEXT) / 10
        assert b"zlib" in data[HEADER_SIZE : HEADER_SIZE + 20]
        assert whole(decode(data)) == self.completed(self.TEXT, compress=False)

    @pytest.mark.parametrize("body", [None, b"", b"ab", bytes(range(256))])
    def test_nothing_to_gain(self, body: bytes | None) -> None:
        """What would not be smaller is kept as it is."""
        as_it_is = self.completed(body, compress=False)
        assert encode(self.completed(body)) == encode(as_it_is)
        assert decode(encode(as_it_is)) == as_it_is

    def test_ends(self) -> None:
        """The ends of a compressed record tell what those of any other tell."""
        data = encode(self.completed(self.TEXT))
        assert decode_summary(data[:HEAD_SIZE], data[-TAIL_SIZE:]) == CompletedSummary(1, 201, 2.5)

    @pytest.mark.parametrize(
        "kept",
        [["zstd", b"", 0], ["zlib", b""], ["zlib", "text", 4], ["zlib", b"", -1],
         ["zlib", b"", "0"], ["zlib", b"", 1.0], ["zlib"], [], "text", {"zlib": b""}],
    )  # fmt: skip
    def test_unreadable(self, kept: object) -> None:
        """An unknown codec and another shape are told as unreadable."""
        with pytest.raises(RecordUnreadable):
            decode(completed(body=kept))

    @pytest.mark.parametrize(
        ("octets", "size"),
        [
            pytest.param(b"no stream", 9, id="no-stream"),
            pytest.param(ZEROS[:-5], 1000, id="cut"),
            pytest.param(ZEROS[:-1] + b"x", 1000, id="wrong-sum"),
            pytest.param(ZEROS + b"x", 1000, id="more-behind"),
            pytest.param(ZEROS, 999, id="larger-than-told"),
            pytest.param(ZEROS, 1001, id="smaller-than-told"),
            pytest.param(ZEROS, 0, id="told-to-be-empty"),
        ],
    )
    def test_r12_damaged_body(self, octets: bytes, size: int) -> None:
        """A body that is not what its record says is unreadable as soon as it is wanted."""
        record = decode(completed(body=["zlib", octets, size]))
        assert isinstance(record, CompletedRecord)
        with pytest.raises(RecordUnreadable, match="its body"):
            record.whole_body(MEBIBYTE)

    def test_r12_limit(self) -> None:
        """A body that is larger than it may be is not expanded, one that is as large is."""
        record = decode(completed(body=["zlib", self.ZEROS, 1000]))
        assert isinstance(record, CompletedRecord)
        assert record.whole_body(1000) == bytes(1000)
        with pytest.raises(RecordUnreadable, match="1000 octets is larger than max_body"):
            record.whole_body(999)

    @pytest.mark.parametrize("size", [100, 2**30], ids=["lies", "does not lie"])
    def test_r12_few_octets_that_swell(self, size: int) -> None:
        """What would swell to a gibibyte takes up no more memory than the body that it claims."""
        stream = zlib.compressobj(9)
        bomb = b"".join(stream.compress(bytes(2**20)) for _ in range(2**5)) + stream.flush()
        record = decode(completed(body=["zlib", bomb, size]))
        assert isinstance(record, CompletedRecord)
        tracemalloc.start()
        try:
            with pytest.raises(RecordUnreadable):
                record.whole_body(MEBIBYTE)
            assert tracemalloc.get_traced_memory()[1] < 2 * MEBIBYTE
        finally:
            tracemalloc.stop()


class TestEnds:
    @given(RECORDS, COMPLETED_RECORDS)
    def test_as_much_as_the_whole(self, record: Record, late: CompletedRecord) -> None:
        """The ends of a record tell what it is, with or without a late owner's response."""
        assert ends(encode(record)) == summary_of(record)
        if isinstance(record, RunningRecord):
            data = encode(record)
            assert ends(encode(record, offer=len(data)) + encode(late)) == record

    def test_body_of_a_mebibyte(self) -> None:
        """Of a large record neither the headers nor the body are needed."""
        headers = (("Link", "x" * 1000),) * 10
        record = CompletedRecord(OWNER, FINGERPRINT, 3, "299 Odd", headers, b"\xc0" * 2**20, 2.5)
        assert ends(encode(record)) == CompletedSummary(3, "299 Odd", 2.5)
        assert CompletedSummary(3, "299 Odd", 2.5).code == 299

    @pytest.mark.parametrize("data", [b"", b"\x01c", encode(ANSWERED)[:60], b"\x02" + b"c" * 99])
    def test_damaged(self, data: bytes) -> None:
        """Damaged ends are an error, as damaged records are."""
        with pytest.raises(RecordUnreadable):
            ends(data)


class TestCode:
    @pytest.mark.parametrize(
        ("status", "code"),
        [(200, 200), ("299 Very Fine", 299), ("404 ", 404)],
    )
    def test_code(self, status: int | str, code: int) -> None:
        """The code is the number in front of the reason phrase."""
        assert CompletedRecord(OWNER, FINGERPRINT, 1, status).code == code


class TestUnreadable:
    @pytest.mark.parametrize("version", [0, 2, 255])
    def test_unknown_version(self, version: int) -> None:
        """A record of an unknown version is an error that names both versions."""
        data = bytes([version]) + encode(ANSWERED)[1:]
        with pytest.raises(
            RecordUnreadable, match=f"version {version} is unknown, this release reads 1"
        ):
            decode(data)

    def test_unknown_state(self) -> None:
        """A record in an unknown state is an error."""
        with pytest.raises(RecordUnreadable, match="state b'x' is unknown"):
            decode(b"\x01x" + encode(ANSWERED)[2:])

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(header()[:-1], id="half-a-header"),
            pytest.param(header(), id="completed-without-payload"),
            pytest.param(completed(attempt=0), id="attempt-0"),
            pytest.param(completed(grace=1), id="completed-with-grace"),
            pytest.param(completed(offer=60), id="completed-with-offer"),
            pytest.param(header(state=b"p", offer=55) + b"\xc0\xc0", id="origin-cut-by-offer"),
            pytest.param(in_progress(attempt=0), id="in-progress-attempt-0"),
            pytest.param(in_progress(first=0), id="first-attempt-0"),
            pytest.param(in_progress(attempt=1, first=2), id="first-attempt-after-this-one"),
            pytest.param(in_progress(grace=2**53), id="grace-that-lua-cannot-count"),
            pytest.param(in_progress(grace=2**64 - 1), id="grace-for-ever"),
            pytest.param(in_progress(offer=10), id="offer-in-the-header"),
            pytest.param(in_progress(offer=54), id="offer-without-origin"),
            pytest.param(in_progress(offer=2**32 - 1), id="offer-beyond-the-end"),
            pytest.param(in_progress(state=b"r", grace=1), id="released-with-grace"),
            pytest.param(in_progress(state=b"r", offer=60), id="released-with-offer"),
        ],
    )
    def test_damaged_header(self, data: bytes) -> None:
        """A damaged header is an error."""
        with pytest.raises(RecordUnreadable, match="record is damaged"):
            decode(data)

    @pytest.mark.parametrize(
        "payload",
        [
            pytest.param([200, b"", "POST", "orders", [], b""], id="too-few"),
            pytest.param([200, b"", "POST", "orders", [], b"", 1.0, 1], id="too-many"),
            pytest.param([200, b"", b"POST", "orders", [], b"", 1.0], id="method-octets"),
            pytest.param([200, b"", "POST", None, [], b"", 1.0], id="endpoint-nil"),
            pytest.param([200, "", "POST", "orders", [], b"", 1.0], id="operation-text"),
            pytest.param(dict.fromkeys("abcdefg"), id="map"),
            pytest.param("seven", id="text"),
            pytest.param(5, id="number"),
            pytest.param(None, id="nil"),
        ],
    )
    def test_wrong_payload(self, payload: object) -> None:
        """A payload of another shape is an error, even where it is sound msgpack."""
        with pytest.raises(RecordUnreadable, match="record is damaged"):
            decode(header() + msgpack.packb(payload))

    @pytest.mark.parametrize(
        "parts",
        [
            pytest.param({"status": ""}, id="status-empty"),
            pytest.param({"status": "OK"}, id="status-without-number"),
            pytest.param({"status": "٢٠٠ OK"}, id="status-of-other-digits"),
            pytest.param({"status": True}, id="status-bool"),
            pytest.param({"status": 200.0}, id="status-float"),
            pytest.param({"status": "2" * 5000 + " OK"}, id="status-of-5000-digits"),
            pytest.param({"status": "200 O\r\nX: 1"}, id="status-of-two-lines"),
            pytest.param({"status": 1000}, id="status-too-large"),
            pytest.param({"status": 100}, id="status-interim"),
            pytest.param({"status": -1}, id="status-negative"),
            pytest.param({"headers": ["A", "1\r\nB: 2"]}, id="header-of-two-lines"),
            pytest.param({"headers": ["A: 1\nB", "2"]}, id="name-of-two-lines"),
            pytest.param({"headers": ["A B", "1"]}, id="name-that-is-no-token"),
            pytest.param({"headers": ["A", "鍵"]}, id="header-beyond-latin-1"),
            pytest.param({"headers": ["A"]}, id="odd-headers"),
            pytest.param({"headers": ["A", b"b"]}, id="header-octets"),
            pytest.param({"headers": {}}, id="headers-map"),
            pytest.param({"headers": None}, id="headers-nil"),
            pytest.param({"body": "text"}, id="body-text"),
            pytest.param({"body": []}, id="body-list"),
            pytest.param({"time": 1}, id="time-integer"),
            pytest.param({"time": float("nan")}, id="time-nan"),
            pytest.param({"time": float("-inf")}, id="time-minus-infinity"),
            pytest.param({"time": float("inf")}, id="time-infinity"),
            pytest.param({"time": -1.0}, id="time-before-1970"),
            pytest.param({"time": 253_402_300_800.0}, id="time-in-the-year-10000"),
        ],
    )
    def test_r12_wrong_part(self, parts: dict[str, Any]) -> None:
        """A part that this package does not write is an error, and no other part is looked at."""
        with pytest.raises(RecordUnreadable, match="record is damaged"):
            decode(completed(**parts))

    @pytest.mark.parametrize(
        "payload",
        [
            pytest.param(["POST", "orders", "host", 1], id="too-few"),
            pytest.param([b"POST", "orders", "host", 1, 1.0], id="method-octets"),
            pytest.param(["POST", None, "host", 1, 1.0], id="endpoint-nil"),
            pytest.param(["POST", "orders", b"host", 1, 1.0], id="host-octets"),
            pytest.param(["POST", "orders", "host", "1", 1.0], id="pid-text"),
            pytest.param(["POST", "orders", "host", -1, 1.0], id="pid-negative"),
            pytest.param(["POST", "orders", "host", 2**32, 1.0], id="pid-too-large"),
            pytest.param(["POST", "orders", "host", 1, 1], id="started-integer"),
            pytest.param(["POST", "orders", "host", 1, float("-inf")], id="started-minus-infinity"),
            pytest.param(["POST", "orders", "host", 1, 1e300], id="started-far-away"),
            pytest.param("abcde", id="text"),
        ],
    )
    @pytest.mark.parametrize("state", [b"p", b"r"])
    def test_wrong_origin(self, state: bytes, payload: object) -> None:
        """A record in progress, or a released one, with another payload is an error."""
        with pytest.raises(RecordUnreadable, match="record is damaged"):
            decode(header(state=state) + msgpack.packb(payload))

    def test_bytes_behind(self) -> None:
        """Bytes behind a record are damage."""
        with pytest.raises(RecordUnreadable):
            decode(encode(ANSWERED) + b"\x00")

    def test_deep_nesting(self) -> None:
        """Deeply nested msgpack is an error, not a crash."""
        with pytest.raises(RecordUnreadable):
            decode(header() + b"\x91" * 100_000)

    @given(COMPLETED_RECORDS, st.data())
    def test_truncated(self, record: CompletedRecord, data: st.DataObject) -> None:
        """No beginning of a completed record is a record."""
        whole = encode(record)
        assert read(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None

    @given(RECORDS, st.data())
    def test_damaged(self, record: Record, data: st.DataObject) -> None:
        """Whatever octet is damaged, the record is unreadable or a record, and no other error."""
        damaged = bytearray(encode(record))
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] ^= data.draw(st.integers(1, 255))
        again = read(bytes(damaged))
        assert again is None or isinstance(again, Record)

    @given(HOSTILE)
    def test_r12_whatever_somebody_wrote(self, data: bytes) -> None:
        """A record that can be read has nothing but what this package writes: it is written again.

        Of one that cannot, the ends may be readable, and cause no other error either.
        """
        again = read(data)
        if again is not None:
            assert read(encode(again)) == again
            assert summary_of(again) == ends(encode(again))
        with suppress(RecordUnreadable):
            ends(data)

    def test_r12_room_for_what_is_not_there(self) -> None:
        """No room is made for a list that says that it is long."""
        data = header() + b"\x94\xdd\x05\xf5\xe1\x00" + bytes(600)
        tracemalloc.start()
        try:
            assert read(data) is None
            with pytest.raises(RecordUnreadable):
                ends(data)
            assert tracemalloc.get_traced_memory()[1] < MEBIBYTE
        finally:
            tracemalloc.stop()

    @given(st.binary(max_size=200))
    def test_random(self, data: bytes) -> None:
        """Random bytes are unreadable or a record, and no other error."""
        again = read(data)
        assert again is None or isinstance(again, Record)

    @given(st.sampled_from([b"p", b"c", b"r"]), st.binary(max_size=100))
    def test_random_payload(self, state: bytes, payload: bytes) -> None:
        """Random bytes behind a sound header are unreadable or a record, and no other error."""
        again = read(header(state=state) + payload)
        assert again is None or isinstance(again, Record)
