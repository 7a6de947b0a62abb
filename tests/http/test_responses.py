"""Responses: which are stored, and with which status and headers."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder
from werkzeug.urls import iri_to_uri
from werkzeug.wrappers import Response

from flask_idempotent._http_semantics import DROPPED_HEADERS, NEVER_KEPT_HEADERS
from flask_idempotent.http.responses import (
    _PLAIN_URI,
    capture,
    kept_headers,
    replay,
    should_store,
    status_of,
    varying_by_cookie,
)
from flask_idempotent.record_format import decode, encode
from flask_idempotent.records import CompletedRecord
from flask_idempotent.settings import resolve

SETTINGS = resolve({})


class TestShouldStore:
    def test_c4_store_if_decides(self) -> None:
        """C4: ``store_if`` decides, and may return any value that is true or false."""
        settings = resolve({}, {"store_if": lambda response: response.status_code == 500 and [1]})
        assert should_store(Response(status=500), settings) is True
        assert should_store(Response(status=200), settings) is False

    def test_c8_dont_keep(self) -> None:
        """C8: statuses of ``dont_keep`` are not kept, and ``store_if`` is not called."""
        settings = resolve({}, {"dont_keep": (404,)})
        assert should_store(Response(status=404), settings) is False
        assert should_store(Response(status=409), settings) is True
        settings = resolve({}, {"dont_keep": (404,), "store_if": lambda response: 1 / 0})
        assert should_store(Response(status=404), settings) is False

    @pytest.mark.parametrize("status", [206, 304])
    def test_r6_never_stored(self, status: int) -> None:
        """R6: a 206 and a 304 are never stored, and ``store_if`` is not called."""
        settings = resolve({}, {"store_if": lambda response: pytest.fail("was asked")})
        assert should_store(Response(status=status), settings) is False

    def test_a_failing_store_if_keeps(self, caplog: pytest.LogCaptureFixture) -> None:
        """Where ``store_if`` raises, the response is kept, so that the view does not run again."""
        settings = resolve({}, {"store_if": lambda response: 1 / 0})
        with caplog.at_level(logging.ERROR, "flask_idempotent"):
            assert should_store(Response(status=200), settings) is True
        assert "store_if failed" in caplog.text


class TestStatusOf:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            (200, 200),
            (201, 201),
            (404, 404),
            (418, 418),
            ("200 OK", 200),
            ("404", 404),
            (299, 299),
            ("200 Fine", "200 Fine"),
            ("200 Ok", "200 Ok"),
            ("404 Not found here", "404 Not found here"),
            ("299 My Own", "299 My Own"),
            ("404 Größe", "404 Größe"),
        ],
    )
    def test_r1_reason_phrase(self, given: int | str, kept: int | str) -> None:
        """R1: the reason phrase is kept where it is not the usual one."""
        response = Response(status=given)
        completed = CompletedRecord(b"o" * 16, b"f" * 16, 1, status_of(response))
        assert completed.status == kept
        again = decode(encode(CompletedRecord(b"o" * 16, b"f" * 16, 1, kept, body=b"")))
        assert isinstance(again, CompletedRecord)
        assert replay(again, Response, SETTINGS).status == response.status

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("299 O\r\nX-Injected: 1", 299),
            ("200 鍵", 200),
            ("200 \udcff", 200),
            ("+201 Fine", 201),
            ("2_0_1 Fine", 201),
            ("201 " + "x" * 1000, 201),
            ("no number", 0),
            (1000, 1000),
        ],
    )
    def test_reason_that_cannot_be_sent(self, given: int | str, kept: int) -> None:
        """A status line that cannot be sent is kept as its code alone."""
        assert status_of(Response(status=given)) == kept


class TestKeptHeaders:
    @pytest.mark.parametrize(
        "name",
        [
            "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Proxy-Own", "TE",
            "Trailer", "Transfer-Encoding", "Upgrade", "Date", "Age", "Server", "Set-Cookie",
            "WWW-Authenticate", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers",
            "RateLimit-Limit", "RateLimit-Policy", "X-RateLimit-Remaining", "X-Request-Id",
            "Traceparent", "Server-Timing", "Alt-Svc", "Content-Length", "Idempotent-Replayed",
        ],
    )  # fmt: skip
    def test_r1_dropped(self, name: str) -> None:
        """R1: a header of one answer, caller or connection is not kept, in any case."""
        for spelt in (name, name.lower(), name.upper()):
            response = Response(headers=[(spelt, "x"), ("X-Kept", "y")])
            kept = {name for name, _ in kept_headers(response, SETTINGS)}
            assert kept == {"X-Kept", "Content-Type"}, spelt

    @pytest.mark.parametrize(
        "name",
        ["Content-Type", "Location", "ETag", "Last-Modified", "Link", "Cache-Control", "Vary",
         "Content-Disposition", "Content-Language", "Content-Encoding", "Retry-After", "Allow",
         "X-Own", "Strict-Transport-Security"],
    )  # fmt: skip
    def test_r1_kept(self, name: str) -> None:
        """Every other header is kept as it is written."""
        response = Response()
        response.headers.clear()
        response.headers[name] = "value"
        assert kept_headers(response, SETTINGS) == ((name, "value"),)

    def test_r1_order_and_repetition(self) -> None:
        """Order and repetition are kept: two ``Link`` headers stay two."""
        headers = [("Link", "</a>"), ("X-A", "1"), ("link", "</b>"), ("X-A", "1"), ("Link", "</c>")]
        response = Response()
        response.headers.clear()
        response.headers.extend(headers)
        assert kept_headers(response, SETTINGS) == tuple(headers)

    @pytest.mark.parametrize(
        "connection",
        [
            pytest.param(["X-Hop"], id="R1-one"),
            pytest.param(["close, x-hop"], id="R1-list"),
            pytest.param(["close", "X-HOP , Other"], id="R1-two-headers"),
            pytest.param(["x-hop", '"'], id="R1-beside-what-is-no-token"),
        ],
    )
    def test_connection_names_headers(self, connection: list[str]) -> None:
        """R1: headers that ``Connection`` names are not kept, even where ``keep_headers`` does."""
        response = Response(headers=[("X-Hop", "1"), ("X-Kept", "2")])
        for value in connection:
            response.headers.add("Connection", value)
        settings = resolve({}, {"keep_headers": ["x-hop"]})
        names = [name for name, _ in kept_headers(response, settings)]
        assert "X-Kept" in names
        assert "X-Hop" not in names

    def test_r1_drop_headers(self) -> None:
        """R1: the application may drop more headers."""
        settings = resolve({}, {"drop_headers": ["x-own"]})
        response = Response(headers=[("X-Own", "1"), ("X-Kept", "2"), ("Server", "3")])
        names = {name for name, _ in kept_headers(response, settings)}
        assert names == {"X-Kept", "Content-Type"}

    @pytest.mark.parametrize(
        "name", [*sorted(DROPPED_HEADERS - NEVER_KEPT_HEADERS), "access-control-max-age"]
    )
    def test_r1_keep_headers(self, name: str) -> None:
        """R1: the application may keep a dropped header, except those of a connection."""
        settings = resolve({}, {"keep_headers": [name.upper()]})
        assert (name, "1") in kept_headers(Response(headers=[(name, "1")]), settings)

    def test_r2_replay_header(self) -> None:
        """R2: the header that marks a replay is not kept, whatever its name."""
        settings = resolve({"IDEMPOTENT_REPLAY_HEADER": "X-Again"})
        assert "X-Again" not in dict(kept_headers(Response(headers={"X-Again": "true"}), settings))

    @pytest.mark.parametrize("name", ["Location", "content-location"])
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("/orders/7?a=b#c", "/orders/7?a=b#c"),
            ("https://example.com:8000/7", "https://example.com:8000/7"),
            ("/orders/鍵", "/orders/%E9%8D%B5"),
            ("http://bücher.de/", "http://xn--bcher-kva.de/"),
            ("//example.com/\xe9", "//example.com/%C3%A9"),
            ("a b\0", "a%20b%00"),
        ],
    )
    def test_uri(self, name: str, given: str, kept: str) -> None:
        """A URI is kept as Werkzeug sends it."""
        response = Response(headers={name: given})
        assert (name, kept) in kept_headers(response, SETTINGS)
        assert response.get_wsgi_headers(EnvironBuilder().get_environ())[name] == kept

    @given(st.from_regex(_PLAIN_URI, fullmatch=True))
    def test_plain_uri(self, uri: str) -> None:
        """Werkzeug can send every URI that is taken for a plain one."""
        assert iri_to_uri(uri).isascii()


class TestCapture:
    def test_status_and_headers(self) -> None:
        """A response that can be sent is captured with its status and headers."""
        response = Response(status="201 Made", headers={"X-Name": "J\xfcrgen", "Set-Cookie": "a=1"})
        status, headers = capture(response, SETTINGS)
        assert (status, dict(headers)["X-Name"]) == ("201 Made", "J\xfcrgen")
        assert "Set-Cookie" not in dict(headers)

    @pytest.mark.parametrize(
        ("status", "headers"),
        [
            (1000, {}),
            (0, {}),
            (-200, {}),
            ("no number", {}),
            (101, {}),
            (200, {"X-Name": "鍵"}),
            (200, {"X-Name": "\ud800"}),
            (200, {"X-Name": "a\0b"}),
            (200, {"X Name": "a"}),
            (200, {"X: 1\r\nY": "a"}),
            (200, {"": "a"}),
            (200, {"Location": "http://["}),
            (200, {"Location": "http://a:99999/"}),
            (200, {"Content-Location": "//a:b/"}),
            (200, {"Location": "/\ud800"}),
            (200, {"Location": f"http://{'a' * 64}.de/"}),
        ],
    )
    def test_cannot_be_sent(self, status: int | str, headers: dict[str, str]) -> None:
        """A response that no server may send is an error before it is stored."""
        with pytest.raises(ValueError):  # noqa: PT011 - Werkzeug's own words, or ours.
            capture(Response(status=status, headers=headers), SETTINGS)


class TestVaryingByCookie:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ([], "Cookie"),
            (["Accept"], "Accept, Cookie"),
            (["Accept, Origin"], "Accept, Origin, Cookie"),
            (["Accept", "Origin"], "Accept, Origin, Cookie"),
            (["Accept, cookie"], "Accept, cookie"),
        ],
    )
    def test_r9_added_once(self, before: list[str], after: str) -> None:
        """R9: ``Cookie`` is added to ``Vary``, and the other headers keep their order."""
        headers = [("X-A", "1"), *(("vary", value) for value in before), ("X-B", "2")]
        assert varying_by_cookie(headers) == (("X-A", "1"), ("X-B", "2"), ("Vary", after))
