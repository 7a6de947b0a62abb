"""Records that cannot be read: unknown, damaged, or written by somebody else."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.record_format import decode, encode
from flask_idempotent.records import CompletedRecord, Record, summary_of
from tests.support.hostile_records import (
    COMPLETED_RECORDS,
    HOSTILE,
    RECORDS,
    completed,
    header,
    in_progress,
)
from tests.support.records import COMPLETED, MEBIBYTE, read, read_summary


class TestUnreadable:
    @pytest.mark.parametrize("version", [0, 2, 255])
    def test_unknown_version(self, version: int) -> None:
        """A record of an unknown version is an error that names both versions."""
        data = bytes([version]) + encode(COMPLETED)[1:]
        with pytest.raises(
            RecordUnreadable, match=f"version {version} is unknown, this release reads 1"
        ):
            decode(data)

    def test_unknown_state(self) -> None:
        """A record in an unknown state is an error."""
        with pytest.raises(RecordUnreadable, match="state b'x' is unknown"):
            decode(b"\x01x" + encode(COMPLETED)[2:])

    @pytest.mark.parametrize("data", [b"", header()[:-1]], ids=["nothing", "half a header"])
    def test_cut_off(self, data: bytes) -> None:
        """The error of a record that ends in its header says how long it is."""
        with pytest.raises(RecordUnreadable, match=f"it has only {len(data)} bytes"):
            decode(data)

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
            pytest.param(in_progress(offer=58), id="offer-without-origin"),
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
            pytest.param([200, 1.0, b"", "POST", "orders", [], b""], id="too-few"),
            pytest.param([200, 1.0, b"", "POST", "orders", [], b"", b"", 1], id="too-many"),
            pytest.param([200, 1.0, b"", b"POST", "orders", [], b"", b""], id="method-bytes"),
            pytest.param([200, 1.0, b"", "POST", None, [], b"", b""], id="endpoint-nil"),
            pytest.param([200, 1.0, "", "POST", "orders", [], b"", b""], id="operation-text"),
            pytest.param(dict.fromkeys("abcdefgh"), id="map"),
            pytest.param("seven", id="text"),
            pytest.param(5, id="number"),
            pytest.param(None, id="nil"),
        ],
    )
    def test_wrong_payload(self, payload: object) -> None:
        """A payload of another shape is an error, even where it is valid msgpack."""
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
            pytest.param({"headers": ["A", b"b"]}, id="header-bytes"),
            pytest.param({"headers": {}}, id="headers-map"),
            pytest.param({"headers": None}, id="headers-nil"),
            pytest.param({"body": "text"}, id="body-text"),
            pytest.param({"body": []}, id="body-list"),
            pytest.param({"session": "text"}, id="session-text"),
            pytest.param({"session": None}, id="session-nil"),
            pytest.param({"time": 1}, id="time-integer"),
            pytest.param({"time": float("nan")}, id="time-nan"),
            pytest.param({"time": float("-inf")}, id="time-minus-infinity"),
            pytest.param({"time": float("inf")}, id="time-infinity"),
            pytest.param({"time": -1.0}, id="time-before-1970"),
            pytest.param({"time": 253_402_300_800.0}, id="time-in-the-year-10000"),
        ],
    )
    def test_r12_wrong_part(self, parts: dict[str, Any]) -> None:
        """R12: a part that this package does not write is an error."""
        with pytest.raises(RecordUnreadable, match="record is damaged"):
            decode(completed(**parts))

    @pytest.mark.parametrize(
        "payload",
        [
            pytest.param(["POST", "orders", "host", 1], id="too-few"),
            pytest.param([b"POST", "orders", "host", 1, 1.0], id="method-bytes"),
            pytest.param(["POST", None, "host", 1, 1.0], id="endpoint-nil"),
            pytest.param(["POST", "orders", b"host", 1, 1.0], id="host-bytes"),
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
        """A running or a released record with another payload is an error."""
        with pytest.raises(RecordUnreadable, match="record is damaged"):
            decode(header(state=state) + msgpack.packb(payload))

    def test_bytes_behind(self) -> None:
        """Bytes behind a record are an error."""
        with pytest.raises(RecordUnreadable):
            decode(encode(COMPLETED) + b"\x00")

    def test_deep_nesting(self) -> None:
        """Deeply nested msgpack is an error, not a crash."""
        with pytest.raises(RecordUnreadable):
            decode(header() + b"\x91" * 100_000)

    @given(COMPLETED_RECORDS, st.data())
    def test_truncated(self, record: CompletedRecord, data: st.DataObject) -> None:
        """A completed record that was cut short is unreadable, wherever it was cut."""
        whole = encode(record)
        assert read(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None

    @given(RECORDS, st.data())
    def test_damaged(self, record: Record, data: st.DataObject) -> None:
        """A record with one damaged byte is unreadable or a record, and causes no other error."""
        damaged = bytearray(encode(record))
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] ^= data.draw(st.integers(1, 255))
        again = read(bytes(damaged))
        assert again is None or isinstance(again, Record)

    @given(HOSTILE)
    def test_r12_written_by_somebody_else(self, data: bytes) -> None:
        """R12: a record that can be read has only what this package writes, so it can be written.

        The summary of one that cannot be read may be readable, and causes no other error either.
        """
        again = read(data)
        if again is not None:
            assert read(encode(again)) == again
            assert summary_of(again) == read_summary(encode(again))
        with suppress(RecordUnreadable):
            read_summary(data)

    def test_r12_long_list(self) -> None:
        """R12: a list that claims to be long allocates no memory for it."""
        data = header() + b"\x94\xdd\x05\xf5\xe1\x00" + bytes(600)
        tracemalloc.start()
        try:
            assert read(data) is None
            with pytest.raises(RecordUnreadable):
                read_summary(data)
            assert tracemalloc.get_traced_memory()[1] < MEBIBYTE
        finally:
            tracemalloc.stop()

    @given(st.binary(max_size=200))
    def test_random(self, data: bytes) -> None:
        """Random bytes are unreadable or a record, and cause no other error."""
        again = read(data)
        assert again is None or isinstance(again, Record)

    @given(st.sampled_from([b"p", b"c", b"r"]), st.binary(max_size=100))
    def test_random_payload(self, state: bytes, payload: bytes) -> None:
        """Random bytes behind a valid header are unreadable or a record."""
        again = read(header(state=state) + payload)
        assert again is None or isinstance(again, Record)
