"""Urlencoded forms: finding fields among the bytes, without splitting or decoding the form.

A form may have ten million fields, which take seconds to split and a hundred times their size in
memory. So the few names that matter are searched for, in any percent-encoding, and all the rest
passes by.
"""

from __future__ import annotations

import codecs
import heapq
import re
from collections.abc import Iterable, Iterator
from functools import cache
from urllib.parse import unquote_to_bytes

#: Bytes of a value that are kept; no key is as long.
MAX_VALUE = 64 * 1024
#: A form that has more fields of these names is not taken apart any further.
MAX_FIELDS = 256
#: After so many fields, names are found only where they are written without escapes: to compare
#: every field with every way to write a name takes longer than to receive the form.
MAX_ESCAPED_FIELDS = 30_000

#: A field's name and its value; or None, and what stands between two such fields.
Piece = tuple[str | None, bytes]
_Found = tuple[int, int, str]

_Decoder = codecs.getincrementaldecoder("utf-8")
#: Stands behind a form with such a field; every other form ends with a separator.
_NOT_UTF8 = b"\xff"

#: Characters that mean something else where they stand in a form.
_SPECIAL = frozenset(b"&=+%")


class UrlencodedFields:
    """Iterates over the fields of these names, and over the bytes between them.

    These bytes are the form as it came. Where a field of these names is not UTF-8, they say so at
    the end.

    :param pieces: the form, a piece at a time.
    :param names: the names, as a view knows them.
    """

    def __init__(self, pieces: Iterable[bytes], names: frozenset[str]) -> None:
        self._pieces = _with_separators(pieces)
        self._names = _names(names)
        self._compared = self._fields = 0
        self._is_utf8 = True
        #: Why fields may have been overlooked, if they may.
        self.stopped_because: str | None = None

    def __iter__(self) -> Iterator[Piece]:
        buffer = b""
        for piece in self._pieces:
            buffer += piece
            start = 0
            for begin, end, name in self._find(buffer):
                yield None, buffer[start:begin]
                start = buffer.find(b"&", end)
                if start < 0:
                    value, buffer = self._read_on(buffer[end:])
                    yield name, _decode_value(value)
                    break
                self._check(_Decoder(), buffer[end:start], final=True)
                yield name, _decode_value(buffer[end : min(start, end + MAX_VALUE)])
            else:
                # What may be the beginning of a name waits for the next piece.
                begun = buffer.find(b"&", max(start, len(buffer) - self._names.longest))
                begun = len(buffer) if begun < 0 else begun
                yield None, buffer[start:begun]
                buffer = buffer[begun:]
        yield None, buffer
        if not self._is_utf8:
            yield None, _NOT_UTF8

    def _find(self, buffer: bytes) -> Iterator[_Found]:
        if b"&" not in buffer:
            # A piece of a long value.
            return
        found = self._names.find_plain(buffer)
        if self._compared <= MAX_ESCAPED_FIELDS and self._names.may_be_escaped(buffer):
            self._compared += buffer.count(b"&")
            if self._compared > MAX_ESCAPED_FIELDS:
                self.stopped_because = f"it has more than {MAX_ESCAPED_FIELDS} fields"
            else:
                found = self._names.find(buffer)
        for field in found:
            if self._fields == MAX_FIELDS:
                self.stopped_because = f"it has the same field more than {MAX_FIELDS} times"
                return
            self._fields += 1
            yield field

    def _read_on(self, value: bytes) -> tuple[bytes, bytes]:
        """The rest of a value that ends in a later piece, and what follows it."""
        decoder = _Decoder()
        self._check(decoder, value)
        while True:
            value = value[:MAX_VALUE]
            # The last piece is a separator.
            piece = next(self._pieces)
            end = piece.find(b"&")
            if end >= 0:
                self._check(decoder, piece[:end], final=True)
                return (value + piece[:end])[:MAX_VALUE], piece[end:]
            self._check(decoder, piece)
            value += piece

    def _check(
        self, decoder: codecs.IncrementalDecoder, value: bytes, *, final: bool = False
    ) -> None:
        # Werkzeug takes a form for empty where one byte of it is not UTF-8, in whichever field.
        try:
            decoder.decode(value, final)
        except UnicodeDecodeError:
            self._is_utf8 = False


def _with_separators(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Give every pair a separator before it and one behind; an empty form has no pair."""
    separator = b"&"
    for piece in pieces:
        yield separator + piece
        separator = b""
    yield b"&"


class _Names:
    """Names of fields, as they may be written.

    :param names: the names as a view knows them.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = {name.encode("utf-8", "surrogatepass"): name for name in names}
        #: Those that may stand in a form as they are.
        self._plain = [name for name in self._names if not _SPECIAL.intersection(name)]
        alternatives = (b"".join(map(_any_spelling, name)) for name in self._names)
        self._pattern = re.compile(b"&(%s)(?=[=&])" % b"|".join(alternatives))
        self._has_space = any(b" " in name for name in self._names)
        #: Bytes of a name with its separators at most.
        self.longest = 3 * max(map(len, self._names)) + 2

    def may_be_escaped(self, buffer: bytes) -> bool:
        return b"%" in buffer or (self._has_space and b"+" in buffer)

    def find(self, buffer: bytes) -> Iterator[_Found]:
        """Find fields, however their names are written: begin, end of the name, and name."""
        for found in self._pattern.finditer(buffer):
            yield found.start(), found.end(), self._names[_decode(found[1])]

    def find_plain(self, buffer: bytes) -> Iterator[_Found]:
        """Find fields whose names are written without escapes; many times as fast."""
        ahead = [
            (begin, needle, self._names[name])
            for name in self._plain
            if b"&" + name in buffer
            for needle in (b"&" + name + b"=", b"&" + name + b"&")
            if (begin := buffer.find(needle)) >= 0
        ]
        heapq.heapify(ahead)
        while ahead:
            begin, needle, name = ahead[0]
            yield begin, begin + len(needle) - 1, name
            following = buffer.find(needle, begin + 1)
            if following < 0:
                heapq.heappop(ahead)
            else:
                heapq.heapreplace(ahead, (following, needle, name))


#: There is one set of names for each set of settings.
_names = cache(_Names)


def _any_spelling(byte: int) -> bytes:
    digits = b"".join(b"[%c%c]" % (d, d ^ 0x20) if d > 0x40 else b"%c" % d for d in b"%02x" % byte)
    escaped = b"%" + digits
    if byte == 0x20:
        return rb"(?:\+|\ |%s)" % escaped
    if byte == 0x25:
        return rb"(?:%25|%(?![0-9A-Fa-f]{2}))"
    if byte in _SPECIAL:
        return escaped
    return b"(?:%s|%s)" % (re.escape(b"%c" % byte), escaped)


def _decode_value(value: bytes) -> bytes:
    return _decode(value.removeprefix(b"="))


def _decode(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))
