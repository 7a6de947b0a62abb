"""Records: a completed record's body and status."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest

from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.record_format import decode
from flask_idempotent.records import CompletedRecord
from tests.support.hostile_records import FINGERPRINT, OWNER, completed

MEBIBYTE = 1024 * 1024
ZEROS = zlib.compress(bytes(1000))


class TestWholeBody:
    @pytest.mark.parametrize(
        ("data", "size"),
        [
            pytest.param(b"no stream", 9, id="no-stream"),
            pytest.param(ZEROS[:-5], 1000, id="cut"),
            pytest.param(ZEROS[:-1] + b"x", 1000, id="wrong-sum"),
            pytest.param(ZEROS + b"x", 1000, id="bytes-behind"),
            pytest.param(ZEROS, 999, id="larger-than-recorded"),
            pytest.param(ZEROS, 1001, id="smaller-than-recorded"),
            pytest.param(ZEROS, 0, id="recorded-as-empty"),
        ],
    )
    def test_r12_damaged_body(self, data: bytes, size: int) -> None:
        """R12: a body that is not what its record says is an error when it is read."""
        record = decode(completed(body=["zlib", data, size]))
        assert isinstance(record, CompletedRecord)
        with pytest.raises(RecordUnreadable, match="its body"):
            record.whole_body(MEBIBYTE)

    def test_r12_limit(self) -> None:
        """R12: a body above the limit is not expanded, one of exactly the limit is."""
        record = decode(completed(body=["zlib", ZEROS, 1000]))
        assert isinstance(record, CompletedRecord)
        assert record.whole_body(1000) == bytes(1000)
        with pytest.raises(RecordUnreadable, match="1000 bytes is larger than max_body"):
            record.whole_body(999)

    @pytest.mark.parametrize("size", [100, 2**30], ids=["false size", "true size"])
    def test_r12_compression_bomb(self, size: int) -> None:
        """R12: a stream that expands to a gibibyte takes no more memory than the size it claims."""
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


class TestRepr:
    def test_session_is_private(self) -> None:
        """What a record repeats of a session is not shown."""
        record = CompletedRecord(OWNER, FINGERPRINT, 1, 201, session=b"paid by Ann")
        assert repr(record).endswith("operation=b'', session='<11 bytes>')")
        assert "Ann" not in repr(record)


class TestStatusCode:
    @pytest.mark.parametrize(
        ("status", "code"),
        [(200, 200), ("299 Very Fine", 299), ("404 ", 404)],
    )
    def test_number(self, status: int | str, code: int) -> None:
        """The code is the number in front of the reason phrase."""
        assert CompletedRecord(OWNER, FINGERPRINT, 1, status).status_code == code
