"""The two forms of a key: bare, and a quoted String of RFC 9651."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_idempotent.http.keys import UnusableKey, parse_bare, parse_header
from tests.support.keys import ANY_HEADER, BARE, EMPTY, KEYS, UUID, VISIBLE, WRONG_BARE, key_or_none


class TestBareKeys:
    @pytest.mark.parametrize(
        "key",
        [
            pytest.param(UUID, id="K3-uuid"),
            pytest.param("a", id="K3-one"),
            pytest.param("a" * 255, id="K3-longest"),
            pytest.param(BARE, id="K3-every-character"),
            pytest.param("12", id="K3-integer"),
            pytest.param("?1", id="K3-boolean"),
            pytest.param(":YQ==:", id="K3-bytes"),
            pytest.param("%22", id="K3-percent"),
            pytest.param("<b>&'", id="K3-markup"),
        ],
    )
    def test_unchanged(self, key: str) -> None:
        """A value without quotes is the key itself."""
        assert parse_bare(key, 255) == key
        assert parse_header(key, 255) == key

    @pytest.mark.parametrize("value", WRONG_BARE)
    def test_refused(self, value: str) -> None:
        """A bare key is visible ASCII without double quote, comma, semicolon and backslash."""
        with pytest.raises(UnusableKey):
            parse_bare(value, 255)

    @pytest.mark.parametrize("character", sorted(set(VISIBLE) - set(BARE)))
    def test_k3_each_excluded_character(self, character: str) -> None:
        """Each of these four characters is refused."""
        with pytest.raises(UnusableKey, match="not allowed"):
            parse_bare(f"a{character}b", 255)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("", "is empty. Send 1 to 255 visible ASCII characters"),
            ("a,b", "has characters that are not allowed. Send 1 to 255"),
            ("a" * 300, "has 300 characters; at most 255 are allowed"),
        ],
    )
    def test_message(self, value: str, message: str) -> None:
        """The message says what is wrong and what to send, with the application's own length."""
        with pytest.raises(UnusableKey, match=message):
            parse_bare(value, 255)

    @pytest.mark.parametrize("length", [1, 32, 1000])
    def test_k3_length_is_a_setting(self, length: int) -> None:
        """A key of exactly the longest length is accepted, and no longer one."""
        assert parse_bare("k" * length, length) == "k" * length
        with pytest.raises(UnusableKey, match=f"at most {length}"):
            parse_bare("k" * (length + 1), length)


class TestQuotedKeys:
    @pytest.mark.parametrize(
        ("value", "key"),
        [
            pytest.param(f'"{UUID}"', UUID, id="K2-uuid"),
            pytest.param('"a b"', "a b", id="K2-space"),
            pytest.param('" a "', " a ", id="K2-spaces-around"),
            pytest.param('"a,b;c"', "a,b;c", id="K2-comma-and-semicolon"),
            pytest.param('"a\\"b"', 'a"b', id="K2-escaped-quote"),
            pytest.param('"a\\\\b"', "a\\b", id="K2-escaped-backslash"),
            pytest.param('"a";p=1', "a", id="K2-parameter"),
            pytest.param('"a"; p="x,y"; q', "a", id="K2-parameters"),
            pytest.param('"' + "a" * 255 + '"', "a" * 255, id="K2-longest"),
            pytest.param('"' + '\\"' * 255 + '"', '"' * 255, id="K2-longest-decoded"),
        ],
    )
    def test_decoded(self, value: str, key: str) -> None:
        """A quoted value is a String of RFC 9651, and the key is its content."""
        assert parse_header(value, 255) == key
        assert parse_header(value, 255, strict=True) == key

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param('"', id="K2-quote"),
            pytest.param('"a', id="K2-unfinished"),
            pytest.param('"a"b', id="K2-text-behind"),
            pytest.param('"a\\b"', id="K2-wrong-escape"),
            pytest.param('"a\\', id="K2-half-escape"),
            pytest.param('"a";', id="K2-half-parameter"),
            pytest.param('"a";P', id="K2-wrong-parameter"),
            pytest.param('""', id="K5-empty-string"),
            pytest.param('" "', id="K5-decoded-space"),
            pytest.param('"   ";a', id="K5-decoded-spaces"),
            pytest.param('"a","b"', id="K5-sent-twice"),
            pytest.param('"a", "b"', id="K5-sent-twice-with-space"),
            pytest.param('"a","a"', id="K5-sent-twice-the-same"),
            pytest.param('"a", a', id="K5-sent-twice-both-forms"),
            pytest.param('"a\x01b"', id="K5-control"),
            pytest.param('"a\tb"', id="K5-tab"),
            pytest.param('"a\x7f"', id="K5-delete"),
            pytest.param('"\xfc"', id="K5-latin-1"),
            pytest.param('"' + "a" * 256 + '"', id="K5-too-long"),
            pytest.param('"' + "\\\\" * 256 + '"', id="K5-too-long-decoded"),
        ],
    )
    def test_refused(self, value: str) -> None:
        """A value that begins with a quote and is not a String is refused."""
        with pytest.raises(UnusableKey):
            parse_header(value, 255)

    @given(KEYS)
    def test_k3_both_forms_are_one_key(self, key: str) -> None:
        """``k`` and ``"k"`` are the same key."""
        assert parse_header(key, 255) == parse_header(f'"{key}"', 255) == key

    @given(KEYS, st.text(" \t", max_size=4), st.text(" \t", max_size=4))
    def test_k6_space_around(self, key: str, before: str, behind: str) -> None:
        """Spaces and tabs around a header's value are stripped, in both forms."""
        assert parse_header(before + key + behind, 255) == key
        assert parse_header(f'{before}"{key}"{behind}', 255) == key

    @pytest.mark.parametrize("space", ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\xa0"])
    def test_k6_other_space(self, space: str) -> None:
        """Only SP and HTAB are stripped."""
        with pytest.raises(UnusableKey):
            parse_header(f"key{space}", 255)


class TestStrictKeys:
    @pytest.mark.parametrize(
        "value",
        [
            pytest.param("abc", id="K4-token"),
            pytest.param("12", id="K4-integer"),
            pytest.param("1.5", id="K4-decimal"),
            pytest.param("?1", id="K4-boolean"),
            pytest.param(":YQ==:", id="K4-bytes"),
            pytest.param("@1659578233", id="K4-date"),
            pytest.param("@999999999999999", id="K4-date-far-away"),
            pytest.param('%"a"', id="K4-display-string"),
            pytest.param('("a")', id="K4-inner-list"),
            pytest.param("a=1", id="K4-dictionary"),
            pytest.param(UUID, id="K4-uuid"),
            *EMPTY,
        ],
    )
    def test_only_a_string(self, value: str) -> None:
        """In strict mode only a String is accepted."""
        with pytest.raises(UnusableKey):
            parse_header(value, 255, strict=True)


class TestAnyValue:
    @given(ANY_HEADER, st.booleans())
    def test_header(self, value: str, strict: bool) -> None:
        """Any header is a valid key or unusable, and causes no other error."""
        key = key_or_none(parse_header, value, 255, strict=strict)
        if key is not None:
            assert 1 <= len(key) <= 255
            assert key.strip(" ")
            assert key.isascii()
            assert key.isprintable()

    @given(st.text(max_size=300) | st.text(BARE + " ,", max_size=9))
    def test_field(self, value: str) -> None:
        """Any value of a form or query is the key itself or unusable, and causes no other error."""
        key = key_or_none(parse_bare, value, 255)
        assert key == (value if 1 <= len(value) <= 255 and set(value) <= set(BARE) else None)
