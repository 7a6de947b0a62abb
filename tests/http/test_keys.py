"""Finding the key of a request: in headers, query and form, and by the application's functions."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_idempotent.http.keys import check_custom, find_key, may_carry_key
from flask_idempotent.problems import KeyInvalid
from flask_idempotent.settings import resolve
from tests.support.keys import ANY_HEADER, BARE, UUID, WRONG_BARE, ask, find, key_or_none


class TestFindKey:
    def test_none(self) -> None:
        """A request without a key has no key."""
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
        """A key is read from each place, and may be in several."""
        assert find(**arguments) == key

    @pytest.mark.parametrize("value", ["k", "", ",", "other"])
    def test_w1_of_a_get_in_headers_alone(self, value: str) -> None:
        """W1: a GET's key is read from headers alone: anybody can write a link with a query."""
        sent = {"path": f"/?__idempotent_key={value}", "form": (value,), "REQUEST_METHOD": "GET"}
        assert find(**sent) is None
        assert find(**sent, HTTP_IDEMPOTENCY_KEY="k") == "k"

    @pytest.mark.parametrize("name", ["Idempotency-Key", "idempotency-key", "IDEMPOTENCY-KEY"])
    def test_k1_case_of_header_names(self, name: str) -> None:
        """Header names are compared without regard to case, in the setting and in the request."""
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
        """Different keys are an error that names where they are."""
        with pytest.raises(KeyInvalid, match=f"different keys in {places}") as raised:
            find(**arguments)
        assert raised.value.key is None

    @pytest.mark.parametrize("value", WRONG_BARE)
    def test_unusable(self, value: str) -> None:
        """An unusable key is an error in each place, and so is an empty one."""
        for place in ("header", "older header", "query", "form"):
            self.check_unusable(place, value)

    def check_unusable(self, place: str, value: str) -> None:
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
        """Headers, field and length are settings; the default names are not read then."""
        config = {
            "IDEMPOTENT_HEADERS": ["X-Once"],
            "IDEMPOTENT_FIELD": "once",
            "IDEMPOTENT_KEY_MAX_LENGTH": 3,
        }
        assert find(config, HTTP_X_ONCE="abc", path="/?once=abc") == "abc"
        assert find(config, HTTP_IDEMPOTENCY_KEY="a", path="/?__idempotent_key=b") is None
        with pytest.raises(KeyInvalid, match="at most 3"):
            find(config, HTTP_X_ONCE="abcd")


class TestStrictKeys:
    @pytest.mark.parametrize("value", ["k", "", ",", "other"])
    def test_w1_of_a_get_in_headers_alone(self, value: str) -> None:
        """W1: a GET's key is read from headers alone: anybody can write a link with a query."""
        sent = {"path": f"/?__idempotent_key={value}", "form": (value,), "REQUEST_METHOD": "GET"}
        config = {"IDEMPOTENT_STRICT_KEYS": True}
        assert find(config, **sent) is None
        assert find(config, **sent, HTTP_IDEMPOTENCY_KEY='"k"') == "k"

    @pytest.mark.parametrize("name", ["Idempotency-Key", "idempotency-key", "IDEMPOTENCY-KEY"])
    def test_k4_only_the_standard_header(self, name: str) -> None:
        """Strict mode is for ``Idempotency-Key`` alone; the older header accepts both forms."""
        config = {
            "IDEMPOTENT_STRICT_KEYS": True,
            "IDEMPOTENT_HEADERS": (name, "X-Idempotent-Key"),
        }
        assert find(config, HTTP_X_IDEMPOTENT_KEY="abc") == "abc"
        assert find(config, HTTP_IDEMPOTENCY_KEY='"abc"', HTTP_X_IDEMPOTENT_KEY="abc") == "abc"
        with pytest.raises(KeyInvalid, match="must be a String"):
            find(config, HTTP_IDEMPOTENCY_KEY="abc")


class TestAnyRequest:
    @given(ANY_HEADER, st.lists(st.text(max_size=5), max_size=2))
    def test_request(self, value: str, fields: list[str]) -> None:
        """Any request has a key, none or an invalid one, and causes no other error."""
        key = key_or_none(find_key, ask(HTTP_IDEMPOTENCY_KEY=value), resolve({}), fields)
        assert key is None or all(field == key for field in fields)

    @given(st.binary(max_size=30), st.binary(max_size=9))
    def test_query(self, value: bytes, other: bytes) -> None:
        """Any bytes in a query are a key, none or an invalid one, and cause no other error."""
        query = b"__idempotent_key=" + value + b"&a=" + other
        request = ask(QUERY_STRING=query.decode("latin-1"))
        key = key_or_none(find_key, request, resolve({}), [])
        assert key is None or set(key) <= set(BARE)

    def test_query_that_is_not_utf_8(self) -> None:
        """A query that is not UTF-8 is not an error, and its key is read."""
        assert find(QUERY_STRING="name=J\xfcrgen") is None
        assert find(QUERY_STRING="name=J\xfcrgen&__idempotent_key=k") == "k"


ID = uuid.UUID(UUID)


class TestCheckCustom:
    @pytest.mark.parametrize("key", ["k", "a b", "schlüssel", '"', "k" * 255, "鍵"])
    def test_any_text(self, key: str) -> None:
        """An application's own function may return any text."""
        assert check_custom(key, resolve({})) == key

    @pytest.mark.parametrize(("key", "text"), [(7, "7"), (0, "0"), (-1, "-1"), (ID, UUID)])
    def test_k9_numbers_and_uuids(self, key: object, text: str) -> None:
        """An int or a UUID stands for its text, and a 0 is a key."""
        assert check_custom(key, resolve({})) == text
        assert find_key(ask(), resolve({}), (), [lambda _: key]) == text

    @pytest.mark.parametrize("nothing", [None, "", False, (), {}])
    def test_finders_without_a_key(self, nothing: object) -> None:
        """An empty value of a function counts as no key, and the next function is called."""
        finders: list[Any] = [lambda _: nothing, lambda _: "k"]
        assert find_key(ask(), resolve({}), (), finders) == "k"

    @pytest.mark.parametrize("key", ["", "  ", "k" * 256, "\ud800", "a\udfffb"])
    def test_unusable(self, key: str) -> None:
        """A text that is empty, too long or not Unicode is an invalid key."""
        with pytest.raises(KeyInvalid) as raised:
            check_custom(key, resolve({}))
        assert raised.value.get_body({"HTTP_ACCEPT": "text/html"}).encode()

    @pytest.mark.parametrize("key", [b"k", 5.0, True, ["k"]])
    def test_k9_other_types(self, key: object) -> None:
        """Another type is a mistake of the application, and the error names the right ones."""
        with pytest.raises(TypeError, match=f"str, int, UUID or None, not {type(key).__name__}"):
            check_custom(key, resolve({}))


class TestMayCarryKey:
    """The quick check that lets most requests without a key pass."""

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
        """It is true where any place may hold a key, and where the view requires one."""
        settings = resolve({f"IDEMPOTENT_{name}": value for name, value in config.items()})
        assert may_carry_key(environ, settings) is expected

    def test_own_function(self) -> None:
        """It is true where the view has a function of its own, which may find a key anywhere."""
        assert may_carry_key({}, resolve({}, {"key": lambda request: None})) is True
