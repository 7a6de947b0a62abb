"""Multipart forms: fields are found without keeping the parts, where Werkzeug finds them too."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from werkzeug.formparser import MultiPartParser

from flask_idempotent.http import multipart
from flask_idempotent.http.multipart import MultipartFields

DISPOSITION = b'Content-Disposition: form-data; name="%b"'


def cut_up(form: bytes, size: int) -> Iterable[bytes]:
    return (form[start : start + size] for start in range(0, len(form), size))


def read(
    form: bytes, *names: str, boundary: bytes = b"b", size: int = 7, parts: int | None = None
) -> tuple[list[bytes], bytes, str | None]:
    """The fields' values, the other bytes that are digested, and why the search stopped."""
    values, rest = [], b""
    fields = MultipartFields(cut_up(form, size), boundary, frozenset(names or {"k"}), parts)
    for name, content in fields:
        if name is None:
            rest += content
        else:
            values.append(content)
    return values, rest, fields.stopped_because


def part(
    header: bytes, content: bytes = b"v", end: bytes = b"\r\n", boundary: bytes = b"b"
) -> bytes:
    return end.join([b"--" + boundary, header, b"", content, b""])


def field(name: bytes, value: bytes = b"v", boundary: bytes = b"b") -> bytes:
    return part(DISPOSITION % name, value, boundary=boundary)


FILE = part(DISPOSITION % b"k" + b'; filename="f"\r\nContent-Type: a/b')
END = b"--b--\r\n"


HEADERS = [
    DISPOSITION % b"k",
    DISPOSITION % b"a",
    DISPOSITION % b"k" + b'; filename=""',
    DISPOSITION % b"k" + b"\nA: \r\tb",
    b"content-disposition: x; name=k",
    b"Content-Disposition: a; NAME=k",
    b"Content-Disposition: x; name*=utf-8''%6b",
    b"Content-Disposition: x; name*0=k; name*1=k",
    b"Content-Disposition: x;\r\n name=k",
]


class TestFinding:
    @pytest.mark.parametrize(
        "form",
        [
            pytest.param(field(b"k") + END, id="alone"),
            pytest.param(field(b"a") + field(b"k") + field(b"b") + END, id="between"),
            pytest.param(FILE + field(b"k") + END, id="beside-a-file-of-its-name"),
            pytest.param(b"preamble\r\n" + field(b"k") + END + b"epilogue --b", id="with-more"),
            pytest.param(part(DISPOSITION % b"k", end=b"\n") + END, id="newlines"),
            pytest.param(part(DISPOSITION % b"k", end=b"\r") + END, id="returns"),
            pytest.param(part(b"content-disposition:form-data;name=k") + END, id="without-quotes"),
            pytest.param(part(b"X: 1\r\n" + DISPOSITION % b"k" + b"\r\nY: 2") + END, id="headers"),
            pytest.param(part(b"Content-Disposition: x; name*=utf-8''%6b") + END, id="encoded"),
            pytest.param(part(b'Content-Disposition: x; name*0=""; name*1=k') + END, id="in-parts"),
            pytest.param(part(b"Content-Disposition: x;\r\n name=k") + END, id="folded"),
            pytest.param(part(b'Content-Disposition: x; name="\\\\"; name=k') + END, id="twice"),
            pytest.param(field(b"k").replace(b"--b", b"--b \t") + END, id="padding"),
            pytest.param(field(b"a", b"\r\n--bb\r\nx--b\r\n--b-") + field(b"k") + END, id="nearly"),
            pytest.param(field(b"k") + b"--b--", id="no-last-line-break"),
            pytest.param(field(b"k"), id="no-end"),
            pytest.param(field(b"\xff") + field(b"k") + END, id="no-utf-8"),
        ],
    )
    @pytest.mark.parametrize("size", [1, 2, 5, 10_000])
    def test_w7_wherever_it_stands(self, form: bytes, size: int) -> None:
        """W7: the field is found, however its part is written, and a file is not."""
        assert read(form, size=size)[0] == [b"v"]

    @pytest.mark.parametrize(
        "value", [b"", b"\r\n", b"v\r\n", b"\n\r", b"\0", b"x--b", b"\r\n--bx"]
    )
    def test_value(self, value: bytes) -> None:
        """A value is what is between the header and the boundary."""
        assert read(field(b"k", value) + field(b"k") + END)[0] == [value, b"v"]

    @pytest.mark.parametrize("name", ["my key", "ü", 'a"b', "100%", "a\\b", "a;b"])
    def test_odd_names(self, name: str) -> None:
        """A name may have any characters."""
        quoted = name.replace("\\", "\\\\").replace('"', '\\"').encode()
        assert read(field(quoted) + END, name)[0] == [b"v"]

    @given(
        st.lists(
            st.builds(
                part,
                st.sampled_from(HEADERS),
                # Control characters are left out: a header that has one counts as malformed here.
                st.text("\r\n-bx", max_size=9).map(str.encode),
                st.sampled_from([b"\r\n", b"\n"]),
            ),
            max_size=4,
        ),
        st.text("\r\n-b", max_size=6).map(str.encode),
        st.sampled_from([END, b"--b--", b"--b-- \n\n", b"--b\t--"]),
        st.integers(1, 30),
    )  # fmt: skip
    def test_w7_as_werkzeug_parses(
        self, parts: list[bytes], preamble: bytes, end: bytes, size: int
    ) -> None:
        """W7: it finds the values that parsing the whole form finds."""
        form = preamble + b"".join(parts) + end
        parser = MultiPartParser(stream_factory=lambda **_: io.BytesIO())
        try:
            parsed, _ = parser.parse(io.BytesIO(form), b"b", len(form))
        except ValueError:
            assume(False)
        assert read(form, size=size)[0] == [value.encode() for value in parsed.getlist("k")]


class TestRest:
    @pytest.mark.parametrize("size", [1, 7, 10_000])
    def test_f2_boundary(self, size: int) -> None:
        """F2: another boundary, or other chunks, give the same bytes to digest."""

        def form(boundary: bytes) -> bytes:
            parts = field(b"a", boundary=boundary), field(b"k", boundary=boundary)
            return b"p" + b"".join(parts) + b"--" + boundary + b"--\r\n"

        _, rest, _ = read(form(b"b"))
        assert read(form(b"other"), boundary=b"other", size=size)[1] == rest

    def test_f2_fields(self) -> None:
        """F2: the digested bytes are those of the form without the fields, wherever these are."""
        a, k = field(b"a"), field(b"k")
        forms = [a + a, k + a + a, a + k + a, a + a + k, k + a + k + a + k]
        assert len({read(form + END)[1] for form in forms}) == 1

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(field(b"a") + END, id="a-field-less"),
            pytest.param(field(b"b") + field(b"a") + END, id="order"),
            pytest.param(field(b"a") + field(b"b", b"w") + END, id="value"),
            pytest.param(field(b"a") + FILE + END, id="a-file"),
            pytest.param(field(b"a") + field(b"b"), id="no-end"),
            pytest.param(b"x" + field(b"a") + field(b"b") + END, id="preamble"),
            pytest.param(field(b"a") + field(b"b") + END + b"x", id="epilogue"),
            pytest.param(field(b"a") + part(DISPOSITION % b"b" + b"\r\nX: 1") + END, id="header"),
            pytest.param(field(b"a", b"v\r\n") + field(b"b") + END, id="line-break"),
            pytest.param(
                part(b"Content-Disposition\r\n" + DISPOSITION % b"k")
                + field(b"a")
                + field(b"b")
                + END,
                id="two-dispositions",
            ),
            pytest.param(b"", id="empty"),
            pytest.param(read(field(b"a") + field(b"b") + END)[1], id="F9-what-is-digested"),
        ],
    )
    def test_f7_f9_differences(self, other: bytes) -> None:
        """F7, F9: no other form is digested as the same bytes, and no file is left out."""
        rest = read(field(b"a") + field(b"b") + END)[1]
        assert read(other)[1] != rest
        assert read(other, boundary=b"")[1] != rest

    @pytest.mark.parametrize("odd", ["\x00", "\x0b", "\x0c", "\x1e", "\x85", "\u2028"])
    def test_f9_odd_headers(self, odd: str) -> None:
        """F9: a file is digested, and a field with control characters in its header, which
        versions of Werkzeug read in different ways."""
        text = odd.encode()
        for header in (
            DISPOSITION % b"k" + text + b'; filename="f"',
            DISPOSITION % b"k" + b'; filename="' + text + b'f"',
            text + DISPOSITION % b"a" + b"\r\n" + DISPOSITION % b"k",
            b"Content-Disposition" + text + b": form-data; name=a\r\n" + DISPOSITION % b"k",
        ):
            values, rest, _ = read(part(header) + END)
            assert values == []
            assert header in rest

    def test_f9_no_boundary(self) -> None:
        """F9: without a boundary there are no parts, and all of it is digested."""
        form = field(b"k") + END
        assert read(form, boundary=b"") == ([], form + len(form).to_bytes(8), None)


class TestLimits:
    def test_w7_parts(self) -> None:
        """W7: the search stops at the limit of parts; the rest is digested as it was sent."""
        form = field(b"a") * 3 + field(b"k") + END
        assert read(form, parts=4)[0] == [b"v"]
        values, rest, cut = read(form, parts=3)
        assert (values, cut) == ([], "it has more than 3 parts")
        assert rest != read(form.replace(b"v", b"w"), parts=3)[1]

    def test_w7_long_header(self) -> None:
        """W7: a part's header over 64 KiB stops the search."""
        disposition = DISPOSITION % b"k"
        padding = b"x" * (multipart.MAX_HEADER_SIZE - len(b"X: \r\n" + disposition + b"\r\n\r\n"))
        longest = part(b"X: " + padding + b"\r\n" + disposition) + END
        assert read(longest, size=1000)[::2] == ([b"v"], None)
        values, _, cut = read(longest.replace(b"X: ", b"X: x"), size=1000)
        assert (values, cut) == ([], "the header of a part is longer than 65536 bytes")

    def test_w7_odd_headers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """W7: many headers that take long to decode stop the search."""
        monkeypatch.setattr(multipart, "MAX_DECODED_SIZE", 300)
        form = field(b"%6b") * 10 + field(b"k") + END
        assert read(form)[::2] == ([], "its parts have more than 300 bytes of odd headers")
        assert read(field(b"a") * 10 + field(b"k") + END)[::2] == ([b"v"], None)

    def test_w7_false_boundaries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """W7: a content that contains the boundary very often stops the search."""
        monkeypatch.setattr(multipart, "MAX_FALSE_BOUNDARIES", 3)
        form = field(b"a", b"x--b" * 10) + field(b"k") + END
        values, rest, cut = read(form)
        assert (values, cut) == ([], "its boundary separates nothing more than 3 times")
        assert rest != read(form.replace(b"v", b"w"))[1]

    def test_w7_many_of_the_fields(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """W7: only the first fields of a name are left out where there are very many."""
        monkeypatch.setattr(multipart, "MAX_FIELDS", 3)
        assert read(field(b"k") * 5 + END)[0] == [b"v"] * 3

    def test_w7_long_value(self) -> None:
        """W7: no more of a value is kept than the longest key has."""
        values, _, cut = read(field(b"k", b"v" * 300_000) + field(b"k") + END, size=1000)
        assert [len(value) for value in values] == [multipart.MAX_VALUE - 2, 1]
        assert cut is None
