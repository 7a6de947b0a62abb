"""Spools: copies of bytes as they are received, in memory, or on disk when they are large."""

from __future__ import annotations

import io
import tempfile
from contextlib import suppress
from typing import IO, cast
from weakref import finalize

#: The most bytes that are kept in memory. A longer body goes to a temporary file.
SPOOL_SIZE = 512 * 1024
#: How many bytes are read from the file where fewer are asked for.
_BLOCK_SIZE = 8 * 1024


class Spool:
    """Bytes that can be appended, and read from any offset.

    The temporary file has no name and is closed with the spool. Where none can be made or written,
    the bytes stay in memory.

    :param first: its first bytes.
    """

    _on_disk = _tried_disk = False
    #: The bytes that were last read from the file, and their offset.
    _block, _block_offset = b"", 0

    def __init__(self, first: bytes = b"") -> None:
        self._file: IO[bytes] = io.BytesIO(first)
        self.size = len(first)

    def append(self, data: bytes) -> None:
        """Append bytes."""
        if not self.size and len(data) <= SPOOL_SIZE:
            # Most bodies are received at once, and need not be copied.
            self._file, self.size = io.BytesIO(data), len(data)
            return
        if self.size + len(data) > SPOOL_SIZE and not self._tried_disk:
            self._tried_disk = True
            # In a read-only container there is no folder for temporary files.
            with suppress(OSError):
                # Unbuffered: a buffer would try to write to a full disk again at each access.
                file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the spool
                # Not in __del__: in a cycle the file's own may run before it, and warns.
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
        """The bytes from an offset on, at most ``size``; all of them if it is negative."""
        left = self.size - offset
        size = left if size < 0 else min(size, left)
        if size <= 0:
            return b""
        if self._on_disk and size < _BLOCK_SIZE:
            return self._read_block(offset, size)
        self._file.seek(offset)
        return self._file.read(size)

    def readline(self, offset: int, size: int = -1) -> bytes:
        """The bytes from an offset to the end of the line, at most ``size`` if not negative."""
        end = self.size if size < 0 else min(offset + size, self.size)
        line = b""
        while offset < end:
            chunk = self.read(offset, min(1024, end - offset))
            length = chunk.find(b"\n") + 1
            if length:
                return line + chunk[:length]
            line += chunk
            offset += len(chunk)
        return line

    def in_memory(self) -> bytes | None:
        """All bytes if they are in memory, or None."""
        return None if self._on_disk else cast("io.BytesIO", self._file).getvalue()

    def _read_block(self, offset: int, size: int) -> bytes:
        # Saves a system call for each line, or for each few bytes, that are read.
        start = offset - self._block_offset
        if not 0 <= start <= len(self._block) - size:
            self._file.seek(offset)
            self._block, self._block_offset, start = self._file.read(_BLOCK_SIZE), offset, 0
        return self._block[start : start + size]

    def _move(self, target: IO[bytes]) -> None:
        offset = 0
        while chunk := self.read(offset, SPOOL_SIZE):
            try:
                _write(target, offset, chunk)
            except OSError:
                target.close()
                raise
            offset += len(chunk)
        self._file.close()
        self._file = target


def _write(file: IO[bytes], offset: int, data: bytes) -> None:
    file.seek(offset)
    unwritten = memoryview(data)
    while unwritten:
        unwritten = unwritten[file.write(unwritten) :]
