"""Urlencoded forms: finding fields among the bytes, without splitting or decoding the form.

A form may have ten million fields. Splitting it takes seconds, and a hundred times its size in
memory. So the few names that matter are searched for, in any percent-encoding, and the other bytes
pass through.
"""

from __future__ import annotations

import codecs
import heapq
import re
from collections.abc import Iterable, Iterator
from functools import cache
from urllib.parse import unquote_to_bytes

#: The most bytes that are kept of a value, more than any key has.
MAX_VALUE = 64 * 1024
#: The most fields with one of the names that are found in a form.
MAX_FIELDS = 256
#: After this many fields of any name, only names without escapes are found: comparing every field
#: with every spelling of a name takes longer than receiving the form.
MAX_ESCAPED_FIELDS = 30_000

#: A field's name and its value; or None, and bytes between two such fields.
FieldOrBytes = tuple[str | None, bytes]
#: Where a field begins, where its name ends, and its name.
_Match = tuple[int, int, str]

_Decoder = codecs.getincrementaldecoder("utf-8")
#: Yielded after a form in which such a field is not UTF-8. Any other form ends with a separator.
_NOT_UTF8 = b"\xff"

#: Characters with another meaning where they are not escaped.
_SPECIAL = frozenset(b"&=+%")


class UrlencodedFields:
    """Iterates over the fields with certain names, and over the bytes between them.

    These bytes are the form as it was sent. They end with a mark where one of the fields is not
    UTF-8, because Werkzeug treats a form as empty if any byte of it is not.

    :param chunks: the form, in chunks of any size.
    :param names: the names, decoded.
    """

    def __init__(self, chunks: Iterable[bytes], names: frozenset[str]) -> None:
        self._chunks = _with_separators(chunks)
        self._names = _names(names)
        self._any_fields = self._fields = 0
        self._is_utf8 = True
        #: Why fields may have been overlooked, or None.
        self.stopped_because: str | None = None

    def __iter__(self) -> Iterator[FieldOrBytes]:
        buffer = b""
        for chunk in self._chunks:
            buffer += chunk
            start = 0
            for begin, end, name in self._matches(buffer):
                yield None, buffer[start:begin]
                start = buffer.find(b"&", end)
                if start < 0:
                    value, buffer = self._read_value(buffer[end:])
                    yield name, _decode_value(value)
                    break
                self._check_utf8(_Decoder(), buffer[end:start], final=True)
                yield name, _decode_value(buffer[end : min(start, end + MAX_VALUE)])
            else:
                # What may be the beginning of a name waits for the next chunk.
                rest = buffer.find(b"&", max(start, len(buffer) - self._names.longest))
                rest = len(buffer) if rest < 0 else rest
                yield None, buffer[start:rest]
                buffer = buffer[rest:]
        yield None, buffer
        if not self._is_utf8:
            yield None, _NOT_UTF8

    def _matches(self, buffer: bytes) -> Iterator[_Match]:
        if b"&" not in buffer:
            # A chunk of a long value.
            return
        matches = self._names.find_plain(buffer)
        if self._any_fields <= MAX_ESCAPED_FIELDS and self._names.may_be_escaped(buffer):
            self._any_fields += buffer.count(b"&")
            if self._any_fields > MAX_ESCAPED_FIELDS:
                self.stopped_because = f"it has more than {MAX_ESCAPED_FIELDS} fields"
            else:
                matches = self._names.find(buffer)
        for match in matches:
            if self._fields == MAX_FIELDS:
                self.stopped_because = f"it has the same field more than {MAX_FIELDS} times"
                return
            self._fields += 1
            yield match

    def _read_value(self, value: bytes) -> tuple[bytes, bytes]:
        """Read on to the end of a value; return the value and the bytes that follow it."""
        decoder = _Decoder()
        self._check_utf8(decoder, value)
        while True:
            value = value[:MAX_VALUE]
            # There is a next chunk: the last one is a separator.
            chunk = next(self._chunks)
            end = chunk.find(b"&")
            if end >= 0:
                self._check_utf8(decoder, chunk[:end], final=True)
                return (value + chunk[:end])[:MAX_VALUE], chunk[end:]
            self._check_utf8(decoder, chunk)
            value += chunk

    def _check_utf8(
        self, decoder: codecs.IncrementalDecoder, value: bytes, *, final: bool = False
    ) -> None:
        try:
            decoder.decode(value, final)
        except UnicodeDecodeError:
            self._is_utf8 = False


def _with_separators(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Put a separator before and after a form, so that every field is between two."""
    separator = b"&"
    for chunk in chunks:
        yield separator + chunk
        separator = b""
    yield b"&"


class _Names:
    """Finds fields by their names, in any spelling.

    :param names: the names, decoded.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = {name.encode("utf-8", "surrogatepass"): name for name in names}
        #: The names that a form may contain without escapes.
        self._plain = [name for name in self._names if not _SPECIAL.intersection(name)]
        spellings = (b"".join(map(_any_spelling, name)) for name in self._names)
        self._pattern = re.compile(b"&(%s)(?=[=&])" % b"|".join(spellings))
        self._has_space = any(b" " in name for name in self._names)
        #: The most bytes that a name takes with its separators.
        self.longest = 3 * max(map(len, self._names)) + 2

    def may_be_escaped(self, buffer: bytes) -> bool:
        return b"%" in buffer or (self._has_space and b"+" in buffer)

    def find(self, buffer: bytes) -> Iterator[_Match]:
        """Find fields whose names are spelt in any way."""
        for match in self._pattern.finditer(buffer):
            yield match.start(), match.end(), self._names[_decode(match[1])]

    def find_plain(self, buffer: bytes) -> Iterator[_Match]:
        """Find fields whose names have no escapes, in order, several times as fast as ``find``."""
        queue = [
            (begin, needle, self._names[name])
            for name in self._plain
            if b"&" + name in buffer
            for needle in (b"&" + name + b"=", b"&" + name + b"&")
            if (begin := buffer.find(needle)) >= 0
        ]
        heapq.heapify(queue)
        while queue:
            begin, needle, name = queue[0]
            yield begin, begin + len(needle) - 1, name
            following = buffer.find(needle, begin + 1)
            if following < 0:
                heapq.heappop(queue)
            else:
                heapq.heapreplace(queue, (following, needle, name))


#: Compiled once for each set of names, of which each combination of settings has one.
_names = cache(_Names)


def _any_spelling(byte: int) -> bytes:
    """A pattern for a byte of a name, escaped or not."""
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
