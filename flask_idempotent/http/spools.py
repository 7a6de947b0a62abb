"""Spools: bytes that are kept while they pass, in memory or, when they are many, on disk."""

from __future__ import annotations

import io
import tempfile
from contextlib import suppress
from typing import IO, cast
from weakref import finalize

#: Bytes; what is longer goes to a temporary file.
SPOOL_SIZE = 512 * 1024
#: Bytes that are read at once from a file where fewer are asked for.
_BLOCK_SIZE = 8 * 1024


class Spool:
    """Bytes that are added at the end and read at any place.

    The temporary file has no name and ends with the spool. Where none can be made or written, the
    bytes stay in memory.

    :param first: what it begins with.
    """

    _on_disk = _tried_disk = False
    #: What was read last from a file, and where it stands there.
    _block, _block_offset = b"", 0

    def __init__(self, first: bytes = b"") -> None:
        self._file: IO[bytes] = io.BytesIO(first)
        self.size = len(first)

    def append(self, data: bytes) -> None:
        """Add bytes at the end."""
        if not self.size and len(data) <= SPOOL_SIZE:
            # A body that comes in one piece, as most do, is not copied.
            self._file, self.size = io.BytesIO(data), len(data)
            return
        if self.size + len(data) > SPOOL_SIZE and not self._tried_disk:
            self._tried_disk = True
            # A read-only container has no folder for temporary files.
            with suppress(OSError):
                # Without a buffer: what a full disk does not take would stay in there and be tried
                # again at each access.
                file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it ends with the spool
                # Not in __del__: in a cycle, the file's own would come first, and warn.
                finalize(self, file.close)
                self._move(file)
                self._on_disk = True
        try:
            _write(self._file, self.size, data)
        except OSError:
            # The disk is full.
            self._move(io.BytesIO())
            self._on_disk = False
            _write(self._file, self.size, data)
        self.size += len(data)

    def read(self, offset: int, size: int = -1) -> bytes:
        """The bytes from an offset on: as many as asked for, or as there are."""
        left = self.size - offset
        size = left if size < 0 else min(size, left)
        if size <= 0:
            return b""
        if self._on_disk and size < _BLOCK_SIZE:
            return self._read_block(offset, size)
        self._file.seek(offset)
        return self._file.read(size)

    def readline(self, offset: int, size: int = -1) -> bytes:
        """The bytes from an offset on, up to the end of the line."""
        end = self.size if size < 0 else min(offset + size, self.size)
        line = b""
        while offset < end:
            piece = self.read(offset, min(1024, end - offset))
            length = piece.find(b"\n") + 1
            if length:
                return line + piece[:length]
            line += piece
            offset += len(piece)
        return line

    def in_memory(self) -> bytes | None:
        """All bytes, where they are in memory."""
        return None if self._on_disk else cast("io.BytesIO", self._file).getvalue()

    def _read_block(self, offset: int, size: int) -> bytes:
        # Whoever reads lines, or a few bytes at a time, would ask the system for each.
        start = offset - self._block_offset
        if not 0 <= start <= len(self._block) - size:
            self._file.seek(offset)
            self._block, self._block_offset, start = self._file.read(_BLOCK_SIZE), offset, 0
        return self._block[start : start + size]

    def _move(self, target: IO[bytes]) -> None:
        offset = 0
        while piece := self.read(offset, SPOOL_SIZE):
            try:
                _write(target, offset, piece)
            except OSError:
                target.close()
                raise
            offset += len(piece)
        self._file.close()
        self._file = target


def _write(file: IO[bytes], offset: int, data: bytes) -> None:
    file.seek(offset)
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
