"""Multipart forms: finding fields among the parts, without keeping what is in them.

Werkzeug's parser makes the application's upload streams, keeps every field, and refuses a form
that is over the limits for forms, which a view that reads the bytes itself does not have. This
one finds the same parts (RFC 7578), takes constant memory and refuses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain

from werkzeug.http import parse_options_header

from flask_idempotent.http.urlencoded import MAX_FIELDS, MAX_VALUE, Piece

#: Bytes of a part's header; a longer one ends the look.
MAX_HEADER = 64 * 1024
#: Bytes of all headers that must be decoded to know the name in them, which takes a hundred times
#: as long as to receive them.
MAX_DECODED = 192 * 1024
#: Bytes of such a header that take as long to decode as one of its parameters.
_PARAMETER = 25
#: How often the boundary may stand where it separates nothing; it never does by chance.
MAX_FALSE_BOUNDARIES = 1000
#: Spaces between a boundary and the end of its line.
_PADDING = 200

_LINE_BREAK = re.compile(rb"\r\n|\n|\r")
_BLANK_LINE = re.compile(rb"\r\n\r\n|\r\r|\n\n")
_FOLDING = re.compile(rb"(?:\r\n|\n|\r)[ \t]")
#: A name of visible characters, and a value without control characters but tabs.
_HEADER_LINE = re.compile(r"([\t !-9;-~]*)(?::([^\x00-\x08\n-\x1f\x7f]*))?")
#: What stands behind a boundary: the end of its line, or of the form.
_SUFFIX = re.compile(
    rb"--[^\S\n\r]{0,%d}(?:\r\n|\n|\r)?|[^\S\n\r]{0,%d}(?:\r\n|\n|\r)" % (_PADDING, _PADDING)
)
_LONGEST_SUFFIX = _PADDING + 4


class MultipartFields:
    """Iterates over the fields of these names, and over the bytes between them.

    These bytes are the form as it came, without the boundaries, which differ with each retry, but
    with the length of each stretch behind it, so that no two forms look alike.

    :param pieces: the form, a piece at a time.
    :param boundary: what separates the parts; empty where nothing does.
    :param names: the names, as a view knows them.
    :param max_parts: how many parts are looked at; None for all.
    """

    def __init__(
        self, pieces: Iterable[bytes], boundary: bytes, names: frozenset[str], max_parts: int | None
    ) -> None:
        self._window = _Window(pieces)
        self._delimiter = b"--" + boundary
        self._names = names
        self._may_name = _may_name(names)
        self._max_parts = max_parts
        self._parts = self._fields = self._decoded = self._false = 0
        #: What stood behind the last boundary; None when no further one was found.
        self._suffix: bytes | None = None
        #: Why fields may have been overlooked, if they may.
        self.stopped_because: str | None = None

    def __iter__(self) -> Iterator[Piece]:
        if len(self._delimiter) > 2:
            yield from _measured(self._content(anywhere=True))
        while (suffix := self._suffix) is not None:
            part = None if suffix.startswith(b"--") else self._next_part()
            if part is None:
                break
            header, name = part
            if name is not None:
                yield name, self._value()
            else:
                yield from _measured([suffix, header])
                yield from _measured(self._content())
        yield from _measured(chain([suffix or b""], self._window.rest()))

    def _content(self, *, anywhere: bool = False) -> Iterator[bytes]:
        """The bytes up to the next boundary, which begins a line; the first may stand anywhere."""
        window, delimiter, offset = self._window, self._delimiter, 0
        self._suffix = None
        while True:
            found = window.find(delimiter, offset)
            if found < 0:
                # At the end may stand a line break and a part of the boundary.
                passed = max(0, window.size - len(delimiter))
                offset = max(offset - passed, min(1, passed))
                yield window.take(passed)
                if not window.more():
                    yield window.take(window.size)
                    return
                continue
            suffix = self._suffix_at(found + len(delimiter))
            if suffix is not None and (anywhere or window.begins_line(found)):
                yield window.take(found)
                window.take(len(delimiter) + len(suffix))
                self._suffix = suffix
                return
            offset = found + 1
            self._false += 1
            if self._false > MAX_FALSE_BOUNDARIES:
                self.stopped_because = (
                    f"its boundary separates nothing more than {MAX_FALSE_BOUNDARIES} times"
                )
                return

    def _suffix_at(self, offset: int) -> bytes | None:
        self._window.fill(offset + _LONGEST_SUFFIX)
        found = self._window.match(_SUFFIX, offset)
        return None if found is None else found[0]

    def _next_part(self) -> tuple[bytes, str | None] | None:
        """The next part's header, and its name if it is one of ours; None ends the look."""
        if self._parts == self._max_parts:
            self.stopped_because = f"it has more than {self._max_parts} parts"
            return None
        self._parts += 1
        size = self._header_size()
        if size is None:
            return None
        header, name = self._window.peek(size), None
        if self._fields < MAX_FIELDS and self._may_name.search(header):
            self._decoded += size + _PARAMETER * header.count(b";")
            if self._decoded > MAX_DECODED:
                self.stopped_because = (
                    f"its parts have more than {MAX_DECODED} bytes of odd headers"
                )
                return None
            name = _field_name(header)
        self._window.take(size)
        if name not in self._names:
            return header, None
        self._fields += 1
        return header, name

    def _header_size(self) -> int | None:
        looked = 0
        while (blank := self._window.search(_BLANK_LINE, looked, MAX_HEADER)) is None:
            looked = max(0, self._window.size - 3)
            if looked >= MAX_HEADER:
                self.stopped_because = f"the header of a part is longer than {MAX_HEADER} bytes"
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
    """A stretch of the form: it begins with what is not yet passed on.

    :param pieces: the form, a piece at a time.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._buffer, self._start = b"", 0

    @property
    def size(self) -> int:
        return len(self._buffer) - self._start

    def more(self) -> bool:
        """Make it longer by a piece; False where there is none."""
        piece = next(self._pieces, b"")
        self._buffer, self._start = self._buffer[self._start :] + piece, 0
        return bool(piece)

    def fill(self, size: int) -> None:
        """Make it at least this long, unless the form ends before."""
        while self.size < size and self.more():
            pass

    def take(self, size: int) -> bytes:
        """Pass on its first bytes."""
        taken = self.peek(size)
        self._start += size
        return taken

    def rest(self) -> Iterator[bytes]:
        """Pass on all that there is to come."""
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
        """Search from an offset on within the first bytes; give where it begins and ends."""
        start = self._start
        found = pattern.search(self._buffer, start + offset, start + size)
        return None if found is None else (found.start() - start, found.end() - start)


def _measured(stretch: Iterable[bytes]) -> Iterator[Piece]:
    size = 0
    for content in stretch:
        size += len(content)
        yield None, content
    yield None, size.to_bytes(8)


@cache
def _may_name(names: frozenset[str]) -> re.Pattern[bytes]:
    """Find the headers that may name these fields: as they are, escaped, in parts or folded."""
    plain = (re.escape(name.encode("utf-8", "surrogatepass")) for name in names)
    return re.compile(rb"[%%\\*]|[\r\n][ \t]|%s" % b"|".join(plain))


def _field_name(header: bytes) -> str | None:
    """The name of a field, as Werkzeug reads it; None for a file and what is no field.

    Werkzeug's versions strip different characters around lines and names. A part that has any but
    spaces and tabs there counts as no field.
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
