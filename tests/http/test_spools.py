"""Spools: bytes that are appended, and read from any offset."""

from __future__ import annotations

import errno
import gc
import io
import os
import tempfile
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_idempotent.http.spools import SPOOL_SIZE, Spool

_temporary_file = tempfile.TemporaryFile
CONTENT = (b"a line\n" * 20_000 + b"x" * 70_000) * 4
assert len(CONTENT) > SPOOL_SIZE


class FullDisk(io.FileIO):
    """A temporary file on a disk that takes a limited number of bytes."""

    left = SPOOL_SIZE + 1000

    def __init__(self, **_: Any) -> None:
        with _temporary_file() as file:
            super().__init__(os.dup(file.fileno()), "r+")

    def write(self, data: Any, /) -> int:
        if not self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(data[: self.left])
        self.left -= written
        return written


def filled(content: bytes, size: int = 60_000) -> Spool:
    spool = Spool()
    for start in range(0, len(content), size):
        spool.append(content[start : start + size])
    return spool


@pytest.fixture(params=["memory", "disk", "no-folder", "full-disk", "full-at-once"])
def spool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Spool:
    """A spool in memory, on disk, and on a disk that fills up."""

    def refuse(**_: Any) -> None:
        raise FileNotFoundError("No usable temporary directory found")

    if request.param == "memory":
        monkeypatch.setattr("flask_idempotent.http.spools.SPOOL_SIZE", 2 * len(CONTENT))
    elif request.param == "no-folder":
        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    elif request.param.startswith("full"):
        monkeypatch.setattr(tempfile, "TemporaryFile", FullDisk)
        monkeypatch.setattr(FullDisk, "left", 1000 if request.param == "full-at-once" else 550_000)
    spool = filled(CONTENT)
    assert (spool.in_memory() is None) is (request.param == "disk")
    return spool


class TestSpool:
    def test_whole(self, spool: Spool) -> None:
        """It has all bytes, also where the disk takes only some of them."""
        assert spool.size == len(CONTENT)
        assert spool.read(0) == CONTENT
        assert spool.in_memory() in (None, CONTENT)

    def test_read(self, spool: Spool) -> None:
        """Any range of bytes can be read, any number of times."""
        offsets = [0, 1, 12_345, len(CONTENT) - 1, len(CONTENT), 10**9]
        sizes = [0, 1, 1000, 9000, SPOOL_SIZE, 10 * SPOOL_SIZE, -1]
        for offset, size in product(offsets, sizes):
            expected = CONTENT[offset:] if size < 0 else CONTENT[offset : offset + size]
            assert spool.read(offset, size) == expected, (offset, size)
            assert spool.read(offset, size) == expected, (offset, size)

    def test_readline(self, spool: Spool) -> None:
        """Lines can be read, short and long ones."""
        offsets = [0, 3, 6, 7, 139_993, 140_000, 140_001, len(CONTENT)]
        file = io.BytesIO(CONTENT)
        for offset, size in product(offsets, [0, 1, 6, 7, 8, 80_000, -1]):
            file.seek(offset)
            assert spool.readline(offset, size) == file.readline(size), (offset, size)

    def test_read_while_it_grows(self, spool: Spool) -> None:
        """Bytes that are appended after a read are read next."""
        end = spool.size
        assert spool.read(end - 1, 10) == CONTENT[-1:]
        spool.append(b"more")
        assert spool.read(end - 1, 10) == CONTENT[-1:] + b"more"
        assert spool.read(end, 10) == b"more"

    @given(st.lists(st.binary(max_size=5)), st.integers(0, 20), st.integers(-1, 20))
    def test_small(self, chunks: list[bytes], offset: int, size: int) -> None:
        """It begins with its first bytes and ends with those appended last."""
        spool = Spool(b"first")
        for chunk in chunks:
            spool.append(chunk)
        content = b"".join([b"first", *chunks])
        assert spool.in_memory() == content
        assert spool.read(offset, size) == content[offset : None if size < 0 else offset + size]

    def test_file_has_no_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its temporary file has no name, by which others could open it."""
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        spool = filled(CONTENT)
        assert spool.in_memory() is None
        assert list(tmp_path.iterdir()) == []

    def test_file_ends_with_it(self) -> None:
        """Its temporary file is closed with it, without a warning."""
        spool = filled(CONTENT)
        file = spool._file
        assert not file.closed
        del spool
        assert file.closed

    def test_file_ends_with_it_in_a_cycle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So it is in a cycle of references, such as an exception and its traceback make."""
        files = [_temporary_file(buffering=0)]
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: files.pop())
        cycle: list[object] = [filled(CONTENT)]
        cycle.append(cycle)
        del cycle
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            gc.collect()
        assert not caught
