"""Keys: which are read, where from, and the name of a key's record."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_idempotent.http.keys import (
    UnusableKey,
    check_custom,
    find_key,
    may_carry_key,
    parse_bare,
    parse_header,
    storage_key,
)
from flask_idempotent.problems import KeyInvalid
from flask_idempotent.settings import resolve

UUID = "8e03978e-40d5-43dd-bc93-6894a57f9324"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
BARE = "".join(c for c in VISIBLE if c not in '",;\\')
KEYS = st.text(BARE, min_size=1, max_size=255)

EMPTY = [
    pytest.param("", id="K5-empty"),
    pytest.param(" ", id="K5-space"),
    pytest.param("   ", id="K5-spaces"),
]
#: Wrong wherever a bare key may stand.
WRONG_BARE = [
    *EMPTY,
    pytest.param("a,b", id="K5-comma"),
    pytest.param("a, a", id="K5-sent-twice-the-same"),
    pytest.param("a;b", id="K3-semicolon"),
    pytest.param('a"b', id="K3-quote"),
    pytest.param('a"', id="K3-quote-behind"),
    pytest.param("a\\b", id="K3-backslash"),
    pytest.param("a b", id="K3-space-inside"),
    pytest.param("a\tb", id="K5-tab-inside"),
    pytest.param("a\x00b", id="K5-nul"),
    pytest.param("a\x7f", id="K5-delete"),
    pytest.param("a\n", id="K5-newline-behind"),
    pytest.param("a\x1f", id="K5-control"),
    pytest.param("schl\xfcssel", id="K5-latin-1"),
    pytest.param("schl\xc3\xbcssel", id="K5-utf-8-as-latin-1"),
    pytest.param("\xa0", id="K5-no-break-space"),
    pytest.param("a" * 256, id="K5-too-long"),
]


def ask(path: str = "/", **environ: str) -> Request:
    """A request with exactly these environment variables."""
    return Request({**EnvironBuilder(path, method="POST").get_environ(), **environ})


def find(
    config: dict[str, Any] | None = None, path: str = "/", form: tuple[str, ...] = (), **env: str
) -> str | None:
    return find_key(ask(path, **env), resolve(config or {}), form)


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
            pytest.param(":YQ==:", id="K3-octets"),
            pytest.param("%22", id="K3-percent"),
            pytest.param("<b>&'", id="K3-markup"),
        ],
    )
    def test_taken_as_it_is(self, key: str) -> None:
        """A value without quotes is the key, as it is."""
        assert parse_bare(key, 255) == key
        assert parse_header(key, 255) == key

    @pytest.mark.parametrize("value", WRONG_BARE)
    def test_refused(self, value: str) -> None:
        """A bare key is visible ASCII without the characters that end or quote one."""
        with pytest.raises(UnusableKey):
            parse_bare(value, 255)

    @pytest.mark.parametrize("character", sorted(set(VISIBLE) - set(BARE)))
    def test_k3_each_excluded_character(self, character: str) -> None:
        """Double quote, comma, semicolon and backslash are no part of a bare key."""
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
    def test_message_helps(self, value: str, message: str) -> None:
        """The message says what is wrong and what would be right, in the application's length."""
        with pytest.raises(UnusableKey, match=message):
            parse_bare(value, 255)

    @pytest.mark.parametrize("length", [1, 32, 1000])
    def test_k3_length_is_a_setting(self, length: int) -> None:
        """Keys may be exactly as long as the application says."""
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
        """A quoted value is a String of RFC 9651; the key is what it says."""
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
        """A value that begins with a quote and is no String is refused."""
        with pytest.raises(UnusableKey):
            parse_header(value, 255)

    @given(KEYS)
    def test_k3_both_forms_are_one_key(self, key: str) -> None:
        """``k`` and ``"k"`` are one key."""
        assert parse_header(key, 255) == parse_header(f'"{key}"', 255) == key

    @given(KEYS, st.text(" \t", max_size=4), st.text(" \t", max_size=4))
    def test_k6_space_around(self, key: str, before: str, behind: str) -> None:
        """Spaces and tabs around a header's value are no part of it, in both forms."""
        assert parse_header(before + key + behind, 255) == key
        assert parse_header(f'{before}"{key}"{behind}', 255) == key

    @pytest.mark.parametrize("space", ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\xa0"])
    def test_k6_other_space(self, space: str) -> None:
        """Nothing but SP and HTAB is stripped."""
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
            pytest.param(":YQ==:", id="K4-octets"),
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
        """In strict mode everything but a String is refused."""
        with pytest.raises(UnusableKey):
            parse_header(value, 255, strict=True)

    @pytest.mark.parametrize("value", ["k", "", ",", "other"])
    def test_w1_of_a_get_in_headers_alone(self, value: str) -> None:
        """A GET's key stands in a header: who makes somebody open a link chooses the query."""
        sent = {"path": f"/?__idempotent_key={value}", "form": (value,), "REQUEST_METHOD": "GET"}
        assert find(**sent) is None
        assert find(**sent, HTTP_IDEMPOTENCY_KEY="k") == "k"

    @pytest.mark.parametrize("name", ["Idempotency-Key", "idempotency-key", "IDEMPOTENCY-KEY"])
    def test_k4_only_the_standard_header(self, name: str) -> None:
        """Strict mode is for ``Idempotency-Key`` alone; the older header takes both forms."""
        config = {
            "IDEMPOTENT_STRICT_KEYS": True,
            "IDEMPOTENT_HEADERS": (name, "X-Idempotent-Key"),
        }
        assert find(config, HTTP_X_IDEMPOTENT_KEY="abc") == "abc"
        assert find(config, HTTP_IDEMPOTENCY_KEY='"abc"', HTTP_X_IDEMPOTENT_KEY="abc") == "abc"
        with pytest.raises(KeyInvalid, match="must be a String"):
            find(config, HTTP_IDEMPOTENCY_KEY="abc")


ANY_HEADER = (
    st.text(st.characters(max_codepoint=0xFF), max_size=300)
    | st.text('"\\,; aB1?:@%()=.-', max_size=12)
    | st.builds('"{}"'.format, st.text('"\\,; aB1', max_size=8))
)


def key_or_none(function: Callable[..., str | None], *arguments: Any, **options: Any) -> str | None:
    """What is found, or None where it is told to be unusable."""
    try:
        return function(*arguments, **options)
    except (UnusableKey, KeyInvalid):
        return None


class TestWhateverComes:
    @given(ANY_HEADER, st.booleans())
    def test_header(self, value: str, strict: bool) -> None:
        """Whatever a header says, it is a valid key or unusable, and no other error."""
        key = key_or_none(parse_header, value, 255, strict=strict)
        if key is not None:
            assert 1 <= len(key) <= 255
            assert key.strip(" ")
            assert key.isascii()
            assert key.isprintable()

    @given(st.text(max_size=300) | st.text(BARE + " ,", max_size=9))
    def test_field(self, value: str) -> None:
        """Whatever a form or query says, it is itself a key or unusable, and no other error."""
        key = key_or_none(parse_bare, value, 255)
        assert key == (value if 1 <= len(value) <= 255 and set(value) <= set(BARE) else None)

    @given(ANY_HEADER, st.lists(st.text(max_size=5), max_size=2))
    def test_request(self, value: str, fields: list[str]) -> None:
        """Whatever a request carries, it has a key or an invalid one, and no other error."""
        key = key_or_none(find_key, ask(HTTP_IDEMPOTENCY_KEY=value), resolve({}), fields)
        assert key is None or all(field == key for field in fields)

    @given(st.binary(max_size=30), st.binary(max_size=9))
    def test_query(self, octets: bytes, behind: bytes) -> None:
        """Whatever octets a query has, no error but an invalid key comes of it."""
        query = b"__idempotent_key=" + octets + b"&a=" + behind
        request = ask(QUERY_STRING=query.decode("latin-1"))
        key = key_or_none(find_key, request, resolve({}), [])
        assert key is None or set(key) <= set(BARE)

    def test_query_of_other_octets(self) -> None:
        """A query that is no UTF-8 is no error, and hides no key."""
        assert find(QUERY_STRING="name=J\xfcrgen") is None
        assert find(QUERY_STRING="name=J\xfcrgen&__idempotent_key=k") == "k"


class TestFindKey:
    def test_none(self) -> None:
        """A request without a key has none."""
        assert find() is None

    @pytest.mark.parametrize(
        ("arguments", "key"),
        [
            pytest.param({"HTTP_IDEMPOTENCY_KEY": "k"}, "k", id="K1-standard-header"),
            pytest.param({"HTTP_X_IDEMPOTENT_KEY": "k"}, "k", id="K1-older-header"),
            pytest.param({"HTTP_X_IDEMPOTENT_KEY": '"k"'}, "k", id="K2-older-header-quoted"),
            pytest.param({"HTTP_IDEMPOTENCY_KEY": "k\t"}, "k", id="K6-trailing-tab"),
            pytest.param({"path": "/?__idempotent_key=k"}, "k", id="K7-query"),
            pytest.param({"path": "/?__idempotent_key=%6b"}, "k", id="K7-query-encoded"),
            pytest.param({"form": ("k",)}, "k", id="K7-form"),
            pytest.param(
                {"HTTP_IDEMPOTENCY_KEY": "k", "HTTP_X_IDEMPOTENT_KEY": '"k"', "form": ("k", "k"),
                 "path": "/?__idempotent_key=k&__idempotent_key=k"}, "k", id="K1-all-agree",
            ),
        ],
    )  # fmt: skip
    def test_sources(self, arguments: dict[str, Any], key: str) -> None:
        """All sources are read, and may say the same."""
        assert find(**arguments) == key

    @pytest.mark.parametrize("value", ["k", "", ",", "other"])
    def test_w1_of_a_get_in_headers_alone(self, value: str) -> None:
        """A GET's key stands in a header: who makes somebody open a link chooses the query."""
        sent = {"path": f"/?__idempotent_key={value}", "form": (value,), "REQUEST_METHOD": "GET"}
        assert find(**sent) is None
        assert find(**sent, HTTP_IDEMPOTENCY_KEY="k") == "k"

    @pytest.mark.parametrize("name", ["Idempotency-Key", "idempotency-key", "IDEMPOTENCY-KEY"])
    def test_k1_names_without_regard_to_case(self, name: str) -> None:
        """A header's name matches in any case, in the setting and in the request."""
        environ = EnvironBuilder(headers={name: "k"}).get_environ()
        for configured in ("iDeMpOtEnCy-KeY", "Idempotency-Key"):
            settings = resolve({"IDEMPOTENT_HEADERS": [configured]})
            assert find_key(Request(environ), settings, []) == "k"

    @pytest.mark.parametrize(
        ("arguments", "places"),
        [
            pytest.param(
                {"HTTP_IDEMPOTENCY_KEY": "a", "HTTP_X_IDEMPOTENT_KEY": "b"},
                "the header Idempotency-Key and the header X-Idempotent-Key", id="K1-headers",
            ),
            pytest.param(
                {"HTTP_IDEMPOTENCY_KEY": "a", "form": ("b",)},
                "the header Idempotency-Key and the form", id="K1-header-and-form",
            ),
            pytest.param(
                {"path": "/?__idempotent_key=a", "form": ("b",)},
                "the query and the form", id="K1-query-and-form",
            ),
            pytest.param(
                {"path": "/?__idempotent_key=a&__idempotent_key=b"},
                r"the query and the query \(again\)", id="K1-query-twice",
            ),
            pytest.param(
                {"form": ("a", "a", "b")}, r"the form and the form \(again\)", id="K1-form-thrice"
            ),
        ],
    )  # fmt: skip
    def test_disagreement(self, arguments: dict[str, Any], places: str) -> None:
        """Sources that disagree are an error that names them, and no key."""
        with pytest.raises(KeyInvalid, match=f"different keys in {places}") as raised:
            find(**arguments)
        assert raised.value.key is None

    @pytest.mark.parametrize("value", WRONG_BARE)
    @pytest.mark.parametrize("place", ["header", "older header", "query", "form"])
    def test_unusable(self, place: str, value: str) -> None:
        """An unusable key is an error wherever it stands, an empty one too."""
        if place == "query":
            env = EnvironBuilder(
                query_string={"__idempotent_key": value}, method="POST"
            ).get_environ()
            request, fields = Request(env), []
        elif place == "form":
            request, fields = ask(), [value]
        else:
            name = "IDEMPOTENCY_KEY" if place == "header" else "X_IDEMPOTENT_KEY"
            request, fields = ask(**{f"HTTP_{name}": value}), []
        with pytest.raises(KeyInvalid):
            find_key(request, resolve({}), fields)

    @pytest.mark.parametrize("path", ["/?__idempotent_key", "/?__idempotent_key="])
    def test_k5_empty_argument(self, path: str) -> None:
        """An empty query argument is an empty key, not a missing one."""
        with pytest.raises(KeyInvalid, match="is empty"):
            find(path=path)

    def test_k5_empty_header_beside_a_good_one(self) -> None:
        """An empty header is an error even where another source has a key."""
        with pytest.raises(KeyInvalid, match="is empty"):
            find(HTTP_IDEMPOTENCY_KEY="k", HTTP_X_IDEMPOTENT_KEY="")

    def test_settings_are_used(self) -> None:
        """Headers, field and length are the application's; the defaults are then not read."""
        config = {
            "IDEMPOTENT_HEADERS": ["X-Once"],
            "IDEMPOTENT_FIELD": "once",
            "IDEMPOTENT_KEY_MAX_LENGTH": 3,
        }
        assert find(config, HTTP_X_ONCE="abc", path="/?once=abc") == "abc"
        assert find(config, HTTP_IDEMPOTENCY_KEY="a", path="/?__idempotent_key=b") is None
        with pytest.raises(KeyInvalid, match="at most 3"):
            find(config, HTTP_X_ONCE="abcd")

    def test_e1_problem_has_the_applications_base(self) -> None:
        """The problem's type begins with the application's base."""
        with pytest.raises(KeyInvalid) as raised:
            find({"IDEMPOTENT_PROBLEM_BASE": "https://p/"}, HTTP_IDEMPOTENCY_KEY="")
        assert raised.value.type == "https://p/key-invalid"


#: As Firefox and Waterfox write it: an unsigned number of 64 bits, quoted.
BROWSER = '"12345678901234567890"'
NAVIGATION = {"HTTP_IDEMPOTENCY_KEY": BROWSER, "HTTP_SEC_FETCH_MODE": "navigate"}


class TestBrowserKeys:
    """K11: a key that the browser itself made, new for each request, protects nothing."""

    @pytest.mark.parametrize("value", [BROWSER, "k", '"k"', "", "a,b"])
    def test_k11_navigation(self, value: str) -> None:
        """On a navigation the header does not count, whatever it says: no script can set it."""
        navigation = {**NAVIGATION, "HTTP_IDEMPOTENCY_KEY": value}
        assert find(**navigation) is None
        assert find(form=("k",), **navigation) == "k"

    def test_k11_setting(self) -> None:
        """With ``IDEMPOTENT_BROWSER_KEYS`` it counts there too, unless another key is found."""
        config = {"IDEMPOTENT_BROWSER_KEYS": True}
        assert find(config, **NAVIGATION) == BROWSER.strip('"')
        assert find(config, form=("k",), **NAVIGATION) == "k"
        with pytest.raises(KeyInvalid, match="is empty"):
            find(config, **{**NAVIGATION, "HTTP_IDEMPOTENCY_KEY": ""})

    @pytest.mark.parametrize("mode", [None, "cors", "same-origin", "no-cors"])
    @pytest.mark.parametrize("value", [BROWSER, '"0"', ' "1"\t'])
    @pytest.mark.parametrize(
        "place",
        [
            {"form": ("k",)},
            {"path": "/?__idempotent_key=k"},
            {"HTTP_X_IDEMPOTENT_KEY": "k"},
        ],
    )
    def test_k11_another_key_wins(
        self, place: dict[str, Any], value: str, mode: str | None
    ) -> None:
        """Digits in quotes count only where nothing else is found, however they were sent."""
        environ = {"HTTP_IDEMPOTENCY_KEY": value}
        if mode is not None:
            environ["HTTP_SEC_FETCH_MODE"] = mode
        assert find(**environ, **place) == "k"
        assert find(**environ) == value.strip('" \t')

    @pytest.mark.parametrize("value", ["12", '"12a"', '"-1"', '"1.5"', '"12";p', '"1", "2"'])
    def test_k11_a_clients_own_key(self, value: str) -> None:
        """Any other key is the client's own, and must agree with what else it sends."""
        with pytest.raises(KeyInvalid):
            find(form=("k",), HTTP_IDEMPOTENCY_KEY=value)

    def test_k11_what_wins_must_agree(self) -> None:
        """The keys beside it must be usable and agree, as ever."""
        with pytest.raises(KeyInvalid, match="the header X-Idempotent-Key and the form"):
            find(form=("b",), HTTP_X_IDEMPOTENT_KEY="a", HTTP_IDEMPOTENCY_KEY=BROWSER)
        with pytest.raises(KeyInvalid, match="is empty"):
            find(form=("",), HTTP_IDEMPOTENCY_KEY=BROWSER)

    @pytest.mark.parametrize("found", [None, "", "k"])
    def test_k11_finders_win(self, found: str | None) -> None:
        """The application's own functions are asked before digits in quotes count."""
        request = ask(HTTP_IDEMPOTENCY_KEY='"1"')
        assert find_key(request, resolve({}), (), [lambda _: found]) == (found or "1")

    def test_k11_only_the_standard_header(self) -> None:
        """Where the application reads other headers, browsers set none of them."""
        config = {"IDEMPOTENT_HEADERS": ["X-Once"]}
        assert find(config, HTTP_X_ONCE='"1"', **NAVIGATION) == "1"
        assert find(config, HTTP_IDEMPOTENCY_KEY=BROWSER) is None


ID = uuid.UUID(UUID)


class TestCheckCustom:
    @pytest.mark.parametrize("key", ["k", "a b", "schlüssel", '"', "k" * 255, "鍵"])
    def test_any_text(self, key: str) -> None:
        """An application's own function may find any text."""
        assert check_custom(key, resolve({})) == key

    @pytest.mark.parametrize(("key", "text"), [(7, "7"), (0, "0"), (-1, "-1"), (ID, UUID)])
    def test_k9_numbers_and_uuids(self, key: object, text: str) -> None:
        """An int or a UUID stands for its text, and nothing is lost of a 0."""
        assert check_custom(key, resolve({})) == text
        assert find_key(ask(), resolve({}), (), [lambda _: key]) == text

    @pytest.mark.parametrize("nothing", [None, "", False, (), {}])
    def test_finders_that_find_nothing(self, nothing: object) -> None:
        """What a finder finds empty is no key, and the next one is asked."""
        finders: list[Any] = [lambda _: nothing, lambda _: "k"]
        assert find_key(ask(), resolve({}), (), finders) == "k"

    @pytest.mark.parametrize("key", ["", "  ", "k" * 256, "\ud800", "a\udfffb"])
    def test_unusable(self, key: str) -> None:
        """A text that is empty, too long or no Unicode is the client's fault."""
        with pytest.raises(KeyInvalid) as raised:
            check_custom(key, resolve({"IDEMPOTENT_PROBLEM_BASE": "https://p/"}))
        assert raised.value.type == "https://p/key-invalid"
        assert raised.value.get_body({"HTTP_ACCEPT": "text/html"}).encode()

    @pytest.mark.parametrize("key", [b"k", 5.0, True, ["k"]])
    def test_k9_no_key(self, key: object) -> None:
        """Anything else is the application's fault, and the error says what may be returned."""
        with pytest.raises(TypeError, match=f"str, int, UUID or None, not {type(key).__name__}"):
            check_custom(key, resolve({}))


class TestMayCarryKey:
    """Quick looks that let a request without a key pass."""

    @pytest.mark.parametrize(
        ("environ", "config", "expected"),
        [
            pytest.param({}, {}, False, id="nothing"),
            pytest.param({"CONTENT_TYPE": "application/json"}, {}, False, id="json"),
            pytest.param({"QUERY_STRING": "page=2"}, {}, False, id="query"),
            pytest.param({"HTTP_IDEMPOTENCY_KEY": ""}, {}, True, id="K1-header"),
            pytest.param({"HTTP_X_IDEMPOTENT_KEY": "k"}, {}, True, id="K1-original-header"),
            pytest.param({"HTTP_IDEMPOTENCY_KEY": "k"}, {"HEADERS": ("Key",)}, False, id="other"),
            pytest.param({"HTTP_MY_KEY": "k"}, {"HEADERS": ("My-Key",)}, True, id="own-header"),
            pytest.param({"QUERY_STRING": "__idempotent_key=k"}, {}, True, id="K1-query"),
            pytest.param({"QUERY_STRING": "%5F_idempotent_key=k"}, {}, True, id="K1-escaped"),
            pytest.param({"QUERY_STRING": "my+key=k"}, {"FIELD": "my key"}, True, id="K1-plus"),
            pytest.param({"CONTENT_TYPE": "multipart/form-data"}, {}, True, id="K1-multipart"),
            pytest.param(
                {"CONTENT_TYPE": "Application/X-WWW-Form-URLEncoded"}, {}, True, id="K1-form"
            ),
            pytest.param({}, {"REQUIRED": True}, True, id="required"),
        ],
    )
    def test_places(
        self, environ: dict[str, str], config: dict[str, object], expected: bool
    ) -> None:
        """Every place that may hold a key counts, as does a view that insists on one."""
        settings = resolve({f"IDEMPOTENT_{name}": value for name, value in config.items()})
        assert may_carry_key(environ, settings) is expected

    def test_own_function(self) -> None:
        """A view's own function may find a key anywhere."""
        assert may_carry_key({}, resolve({}, {"key": lambda request: None})) is True


NAMED = st.tuples(st.text(max_size=4), st.none() | st.text(max_size=4), st.text(max_size=4))


class TestStorageKey:
    def test_form(self) -> None:
        """The name is the prefix and, in braces, a digest in letters, digits, ``-`` and ``_``."""
        name = storage_key("IDEMPOTENT_", "app", "user", "key")
        assert name.startswith("IDEMPOTENT_{")
        assert name.endswith("}")
        inside = name[len("IDEMPOTENT_{") : -1]
        assert len(base64.urlsafe_b64decode(inside + "==")) == 16

    def test_never_changes(self) -> None:
        """The name is the same in every release, or records would be lost at an update."""
        expected = hashlib.blake2b(b"\x93\xa3app\xc4\x04user\xa3key", digest_size=16).digest()
        inside = base64.urlsafe_b64encode(expected).decode().rstrip("=")
        assert storage_key("P_", "app", "user", "key") == f"P_{{{inside}}}"

    @given(NAMED, NAMED)
    def test_f7_no_collision(
        self, one: tuple[str, str | None, str], other: tuple[str, str | None, str]
    ) -> None:
        """Two combinations of application, scope and key have one name only if they are equal."""
        assert (storage_key("", *one) == storage_key("", *other)) is (one == other)

    def test_text_and_octets(self) -> None:
        """A scope's text counts as its UTF-8, whatever characters it has."""
        octets = storage_key("", "app", b"\xc3\xbc\xed\xa0\x80", "key")
        assert storage_key("", "app", "ü\ud800", "key") == octets

    @given(st.text(max_size=50))
    def test_k8_clients_octets_never_reach_the_store(self, key: str) -> None:
        """Nothing that the client sent stands in the name."""
        name = storage_key("", "app", key, key)
        assert name.isascii()
        assert len(name) == 24
        assert name.strip("{}").replace("-", "").replace("_", "").isalnum()

    def test_case_matters(self) -> None:
        """Keys that differ in case are two keys."""
        assert storage_key("", "app", None, "K") != storage_key("", "app", None, "k")

    def test_scope_of_octets(self) -> None:
        """A scope may be octets."""
        assert storage_key("", "app", b"\xff", "k") != storage_key("", "app", b"\xfe", "k")
