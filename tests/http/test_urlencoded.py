"""Urlencoded forms: fields are found without splitting the form, wherever and however written."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flask_idempotent.http import urlencoded
from flask_idempotent.http.urlencoded import UrlencodedFields

KEY = "__idempotent_key"


def cut_up(form: bytes, size: int) -> Iterable[bytes]:
    return (form[start : start + size] for start in range(0, len(form), size))


def read(form: bytes, *names: str, size: int = 5) -> tuple[list[tuple[str, bytes]], bytes]:
    """The fields that were found, and the rest of the form as it is digested."""
    fields, rest = [], b""
    for name, content in UrlencodedFields(cut_up(form, size), frozenset(names or {KEY})):
        if name is None:
            rest += content
        else:
            fields.append((name, content))
    return fields, rest


def values(form: bytes, *names: str, size: int = 5) -> list[bytes]:
    return [value for _, value in read(form, *names, size=size)[0]]


class TestFinding:
    @pytest.mark.parametrize(
        "form",
        [
            pytest.param(b"__idempotent_key=k", id="alone"),
            pytest.param(b"a=1&__idempotent_key=k&b=2", id="between"),
            pytest.param(b"&&__idempotent_key=k&&", id="among-nothing"),
            pytest.param(b"%5F%5fidempotent%5Fkey=k", id="underscores"),
            pytest.param(b"".join(b"%%%02x" % byte for byte in KEY.encode()) + b"=%6b", id="all"),
            pytest.param(b"a=%&__idempotent_key=k", id="percent-before"),
            pytest.param(b"%5&__idempotent_key=k&%", id="percents"),
            pytest.param(b"x__idempotent_key=no&__idempotent_key=k", id="end-of-a-name"),
            pytest.param(b"a=__idempotent_key=no&__idempotent_key=k", id="in-a-value"),
            pytest.param(b"a=%26__idempotent_key=no&__idempotent_key=k", id="encoded-separator"),
            pytest.param(b"__idempotent_key%3D=no&__idempotent_key=k", id="encoded-equals"),
            pytest.param(b"__idempotent_key_=no&__idempotent_key=k", id="beginning-of-a-name"),
            pytest.param(b"__idempotent_ke=no&__idempotent_key=k&__idempotent_ke", id="nearly"),
            pytest.param(b"\xff=\xff&__idempotent_key=k&\x00", id="no-utf-8"),
        ],
    )
    @pytest.mark.parametrize("size", [1, 2, 3, 17, 1000])
    def test_w7_however_written(self, form: bytes, size: int) -> None:
        """W7: the field is found in any percent-encoding, and nothing that only looks like it."""
        assert values(form, size=size) == [b"k"]

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (b"=k", b"k"), (b"", b""), (b"=", b""), (b"==", b"="), (b"=a+b%20c", b"a b c"),
            (b"=%6", b"%6"), (b"=%ff", b"\xff"), (b"=k%26l", b"k&l"),
        ],
    )  # fmt: skip
    def test_value(self, value: bytes, expected: bytes) -> None:
        """A value is decoded, and may be missing."""
        assert values(b"a=1&__idempotent_key" + value + b"&b=2") == [expected]

    @pytest.mark.parametrize("name", ["my key", "a+b", "a&b=c", "100%", "5%41", "ü", "a.b[0]", "&"])
    def test_odd_names(self, name: str) -> None:
        """A name may have any characters."""
        form = urlencode([("x", "1"), (name, "k"), ("y", "2")]).encode()
        assert values(form, name) == [b"k"]
        assert values(form.lower(), name) == [b"k"]

    def test_name_with_a_space_as_it_is(self) -> None:
        """A space may be a plus, a space or an escape."""
        assert values(b"a=1&my+key=1&my key=2&my%20key=3", "my key") == [b"1", b"2", b"3"]

    @given(
        st.text("_k=&%+5Ff", max_size=40).map(str.encode),
        st.sampled_from(["_k", "k", "kk", "_", "5", "%", "+", " ", "k+"]),
        st.integers(1, 50),
    )
    @example(b"%%5F", "%_", 1)
    def test_w7_as_werkzeug_parses(self, form: bytes, name: str, size: int) -> None:
        """W7: it finds the values that parsing the whole form finds."""
        parsed = parse_qsl(form.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
        expected = [value.encode("latin-1") for other, value in parsed if other == name]
        assert values(form, name, size=size) == expected

    @given(st.lists(st.sampled_from([b"a=1", b"", b"k=1", b"%6b=2", b"l", b"x=k"]), max_size=8))
    def test_f2_rest(self, pairs: list[bytes]) -> None:
        """F2: the digested bytes are those of the form without the fields."""
        own = [pair for pair in pairs if pair[:1] in (b"k", b"l", b"%")]
        others = [pair for pair in pairs if pair not in own]
        fields, rest = read(b"&".join(pairs), "k", "l")
        assert len(fields) == len(own)
        form = b"&".join(others)
        # A form of one empty pair looks the same as an empty form.
        assert rest == read(form, "k", "l")[1] or not form

    @pytest.mark.parametrize("size", [1, 2, 5, 1000])
    def test_f9_no_utf8(self, size: int) -> None:
        """F9: a form that one of the fields makes unreadable, and therefore empty, is not digested
        like one that can be read."""
        good = read(b"pay=1&k=\xc3\xbc&b=2", "k", size=size)[1]
        assert good == read(b"pay=1&b=2", "k", size=size)[1]
        for value in (b"\xff", b"\xc3", b"\xc3\xbc" * 50_000 + b"\xff", b"\xff" + b"x" * 100_000):
            for form in (b"pay=1&k=%b&b=2", b"pay=1&b=2&k=%b", b"k=%b&k=1&pay=1&b=2"):
                assert read(form % value, "k", size=max(size, len(value) // 50))[1] != good


class TestLimits:
    def test_w7_long_value(self) -> None:
        """W7: no more of a value is kept than the longest key has."""
        form = b"__idempotent_key=" + b"k" * 300_000 + b"&__idempotent_key=2"
        first, second = values(form, size=1000)
        assert first == b"k" * (urlencoded.MAX_VALUE - 1)
        assert second == b"2"

    def test_w7_many_of_the_fields(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """W7: the search stops, and says so, when a form has a field too often."""
        monkeypatch.setattr(urlencoded, "MAX_FIELDS", 3)
        form = b"k=1&" * 4
        assert read(form, "k", size=100) == ([("k", b"1")] * 3, b"&k=1&&")
        fields = UrlencodedFields([form], frozenset({"k"}))
        assert list(fields)
        assert fields.stopped_because == "it has the same field more than 3 times"

    def test_w7_many_escaped_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """W7: in a form with very many fields a name is found only without escapes."""
        monkeypatch.setattr(urlencoded, "MAX_ESCAPED_FIELDS", 3)
        fields = UrlencodedFields([b"%41&" * 5 + b"%6b=1&k=2&"], frozenset({"k"}))
        assert [value for name, value in fields if name] == [b"2"]
        assert fields.stopped_because == "it has more than 3 fields"

    def test_nothing_is_cut_short(self) -> None:
        """Other forms are searched to their end."""
        fields = UrlencodedFields([b"a=%41&k=1"], frozenset({"k"}))
        assert list(fields)
        assert fields.stopped_because is None
