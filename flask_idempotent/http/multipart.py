"""Multipart forms: finding fields among the parts, without keeping their contents.

Werkzeug's parser makes the application's upload streams, keeps every field, and refuses forms over
limits that do not apply to a view that reads the bytes itself. This one finds the same parts
(RFC 7578), takes constant memory and refuses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain

from werkzeug.http import parse_options_header

from flask_idempotent.http.urlencoded import MAX_FIELDS, MAX_VALUE, FieldOrBytes

#: The longest header of a part in bytes. A longer one ends the search.
MAX_HEADER_SIZE = 64 * 1024
#: The most bytes of headers that are decoded to find their field's name. Decoding takes a hundred
#: times as long as receiving.
MAX_DECODED_SIZE = 192 * 1024
#: How many bytes of such a header take as long to decode as one of its parameters.
_PARAMETER_COST = 25
#: How often a boundary may occur where it separates nothing, which does not happen by chance.
MAX_FALSE_BOUNDARIES = 1000
#: The most spaces between a boundary and the end of its line.
_PADDING = 200

_LINE_BREAK = re.compile(rb"\r\n|\n|\r")
_BLANK_LINE = re.compile(rb"\r\n\r\n|\r\r|\n\n")
_FOLDING = re.compile(rb"(?:\r\n|\n|\r)[ \t]")
#: A name of visible characters, and a value without control characters but tabs.
_HEADER_LINE = re.compile(r"([\t !-9;-~]*)(?::([^\x00-\x08\n-\x1f\x7f]*))?")
#: What follows a boundary: the end of its line, or of the form.
_SUFFIX = re.compile(
    rb"--[^\S\n\r]{0,%d}(?:\r\n|\n|\r)?|[^\S\n\r]{0,%d}(?:\r\n|\n|\r)" % (_PADDING, _PADDING)
)
_LONGEST_SUFFIX = _PADDING + 4


class MultipartFields:
    """Iterates over the fields with certain names, and over the bytes between them.

    These bytes are the form as it was sent, without its boundaries, which change with each retry.
    After the bytes between two boundaries follows their number, so that two different forms never
    give the same bytes.

    :param chunks: the form, in chunks of any size.
    :param boundary: what separates the parts; empty where the form has no boundary.
    :param names: the names, decoded.
    :param max_parts: how many parts are searched; None for all.
    """

    def __init__(
        self, chunks: Iterable[bytes], boundary: bytes, names: frozenset[str], max_parts: int | None
    ) -> None:
        self._window = _Window(chunks)
        self._delimiter = b"--" + boundary
        self._names = names
        self._may_name = _may_name(names)
        self._max_parts = max_parts
        self._parts_seen = self._fields = self._decoded_size = self._false_boundaries = 0
        #: What followed the last boundary; None when no other boundary was found.
        self._suffix: bytes | None = None
        #: Why fields may have been overlooked, or None.
        self.stopped_because: str | None = None

    def __iter__(self) -> Iterator[FieldOrBytes]:
        if len(self._delimiter) > 2:
            yield from _with_size(self._content(anywhere=True))
        while (suffix := self._suffix) is not None:
            part = None if suffix.startswith(b"--") else self._next_part()
            if part is None:
                break
            header, name = part
            if name is not None:
                yield name, self._value()
            else:
                yield from _with_size([suffix, header])
                yield from _with_size(self._content())
        yield from _with_size(chain([suffix or b""], self._window.rest()))

    def _content(self, *, anywhere: bool = False) -> Iterator[bytes]:
        """The bytes up to the next boundary, which must begin a line, except the first one."""
        window, delimiter, offset = self._window, self._delimiter, 0
        self._suffix = None
        while True:
            begin = window.find(delimiter, offset)
            if begin < 0:
                # The last bytes may be a line break and a part of the boundary.
                size = max(0, window.size - len(delimiter))
                offset = max(offset - size, min(1, size))
                yield window.take(size)
                if not window.more():
                    yield window.take(window.size)
                    return
                continue
            suffix = self._suffix_at(begin + len(delimiter))
            if suffix is not None and (anywhere or window.begins_line(begin)):
                yield window.take(begin)
                window.take(len(delimiter) + len(suffix))
                self._suffix = suffix
                return
            offset = begin + 1
            self._false_boundaries += 1
            if self._false_boundaries > MAX_FALSE_BOUNDARIES:
                self.stopped_because = (
                    f"its boundary separates nothing more than {MAX_FALSE_BOUNDARIES} times"
                )
                return

    def _suffix_at(self, offset: int) -> bytes | None:
        self._window.fill(offset + _LONGEST_SUFFIX)
        match = self._window.match(_SUFFIX, offset)
        return None if match is None else match[0]

    def _next_part(self) -> tuple[bytes, str | None] | None:
        """The next part's header, and its name if it is one of the names; None ends the search."""
        if self._parts_seen == self._max_parts:
            self.stopped_because = f"it has more than {self._max_parts} parts"
            return None
        self._parts_seen += 1
        size = self._header_size()
        if size is None:
            return None
        header, name = self._window.peek(size), None
        if self._fields < MAX_FIELDS and self._may_name.search(header):
            self._decoded_size += size + _PARAMETER_COST * header.count(b";")
            if self._decoded_size > MAX_DECODED_SIZE:
                self.stopped_because = (
                    f"its parts have more than {MAX_DECODED_SIZE} bytes of odd headers"
                )
                return None
            name = _field_name(header)
        self._window.take(size)
        if name not in self._names:
            return header, None
        self._fields += 1
        return header, name

    def _header_size(self) -> int | None:
        searched = 0
        while (blank := self._window.search(_BLANK_LINE, searched, MAX_HEADER_SIZE)) is None:
            searched = max(0, self._window.size - 3)
            if searched >= MAX_HEADER_SIZE:
                self.stopped_because = (
                    f"the header of a part is longer than {MAX_HEADER_SIZE} bytes"
                )
                return None
            if not self._window.more():
                return None
        # The first half of the blank line ends the header, the second begins the content.
        return sum(blank) // 2

    def _value(self) -> bytes:
        value = b""
        for content in self._content():
            value += content[: MAX_VALUE - len(value)]
        begin = _LINE_BREAK.match(value)
        value = value[begin.end() :] if begin else value
        for end in (b"\r\n", b"\n", b"\r"):
            if value.endswith(end):
                return value.removesuffix(end)
        return value


class _Window:
    """The bytes of a form that were received and not consumed yet.

    :param chunks: the form, in chunks of any size.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer, self._start = b"", 0

    @property
    def size(self) -> int:
        return len(self._buffer) - self._start

    def more(self) -> bool:
        """Receive another chunk; False at the end of the form."""
        chunk = next(self._chunks, b"")
        self._buffer, self._start = self._buffer[self._start :] + chunk, 0
        return bool(chunk)

    def fill(self, size: int) -> None:
        """Receive chunks until it has ``size`` bytes, or the form ends."""
        while self.size < size and self.more():
            pass

    def take(self, size: int) -> bytes:
        """Remove and return the first bytes."""
        data = self.peek(size)
        self._start += size
        return data

    def rest(self) -> Iterator[bytes]:
        """Remove and yield all bytes up to the end of the form."""
        yield self.take(self.size)
        while self.more():
            yield self.take(self.size)

    def peek(self, size: int) -> bytes:
        return self._buffer[self._start : self._start + size]

    def find(self, needle: bytes, offset: int) -> int:
        return max(-1, self._buffer.find(needle, self._start + offset) - self._start)

    def begins_line(self, offset: int) -> bool:
        return offset > 0 and self._buffer[self._start + offset - 1] in b"\r\n"

    def match(self, pattern: re.Pattern[bytes], offset: int) -> re.Match[bytes] | None:
        return pattern.match(self._buffer, self._start + offset)

    def search(self, pattern: re.Pattern[bytes], offset: int, size: int) -> tuple[int, int] | None:
        """Search the first ``size`` bytes from an offset on; return the span of the match."""
        start = self._start
        match = pattern.search(self._buffer, start + offset, start + size)
        return None if match is None else (match.start() - start, match.end() - start)


def _with_size(contents: Iterable[bytes]) -> Iterator[FieldOrBytes]:
    size = 0
    for content in contents:
        size += len(content)
        yield None, content
    yield None, size.to_bytes(8)


@cache
def _may_name(names: frozenset[str]) -> re.Pattern[bytes]:
    """A pattern for headers that may have one of the names, plain, escaped, continued or folded."""
    plain = (re.escape(name.encode("utf-8", "surrogatepass")) for name in names)
    return re.compile(rb"[%%\\*]|[\r\n][ \t]|%s" % b"|".join(plain))


def _field_name(header: bytes) -> str | None:
    """The name of a field, as Werkzeug reads it; None for a file, and for a malformed header.

    Werkzeug's versions disagree about which characters are stripped from lines and names, so a
    header with control characters counts as malformed.
    """
    try:
        text = _FOLDING.sub(b" ", header).decode()
    except UnicodeDecodeError:
        return None
    disposition = None
    for line in text.replace("\r", "\n").split("\n"):
        match = _HEADER_LINE.fullmatch(line)
        if match is None:
            return None
        if disposition is None and match[1].strip(" \t").lower() == "content-disposition":
            disposition = match[2] or ""
    options = parse_options_header((disposition or "").strip(" \t"))[1]
    return None if "filename" in options else options.get("name")
