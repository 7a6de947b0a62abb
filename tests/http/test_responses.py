"""Responses: passed on as they are, remembered, and made again."""

from __future__ import annotations

import gc
import io
import logging
import zlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, redirect, request, send_file, stream_with_context
from flask import Response as FlaskResponse
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import Client, EnvironBuilder, TestResponse, run_wsgi_app
from werkzeug.urls import iri_to_uri
from werkzeug.wrappers import Response

from flask_idempotent._http_semantics import DROPPED, NEVER_KEPT
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.http.responses import (
    _PLAIN_URI,
    Tee,
    capture,
    kept_headers,
    replay,
    should_store,
    status_of,
    varying_by_cookie,
    watch_body,
)
from flask_idempotent.record_format import decode, encode
from flask_idempotent.records import CompletedRecord, CompressedBody
from flask_idempotent.settings import resolve
from tests.conftest import MakeApp

SETTINGS = resolve({})
KEY = {"Idempotency-Key": "k"}


class Finish:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[bytes | str | None] = []

    def __call__(self, body: bytes | None) -> None:
        self.told.append(body)

    def abandon(self) -> None:
        self.told.append("abandoned")


class Stream:
    """A stream that notes what happens to it, and may break off."""

    def __init__(self, *chunks: Any, error: BaseException | None = None) -> None:
        self._chunks = iter(chunks)
        self._error = error
        self.read = 0
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        for chunk in self._chunks:
            self.read += 1
            return chunk
        raise self._error or StopIteration

    def close(self) -> None:
        self.closed += 1


class TestShouldStore:
    def test_c4_store_if_decides(self) -> None:
        """The application says which responses are kept, and may answer with anything."""
        settings = resolve({}, {"store_if": lambda response: response.status_code == 500 and [1]})
        assert should_store(Response(status=500), settings) is True
        assert should_store(Response(status=200), settings) is False

    def test_c8_dont_keep(self) -> None:
        """C8: statuses of ``dont_keep`` are not kept, and ``store_if`` is not asked."""
        settings = resolve({}, {"dont_keep": (404,)})
        assert should_store(Response(status=404), settings) is False
        assert should_store(Response(status=409), settings) is True
        settings = resolve({}, {"dont_keep": (404,), "store_if": lambda response: 1 / 0})
        assert should_store(Response(status=404), settings) is False

    @pytest.mark.parametrize("status", [206, 304])
    def test_r6_never_stored(self, status: int) -> None:
        """A 206 and a 304 are never stored, whatever ``store_if`` says; it is not even asked."""
        settings = resolve({}, {"store_if": lambda response: pytest.fail("was asked")})
        assert should_store(Response(status=status), settings) is False

    def test_a_failing_store_if_keeps(self, caplog: pytest.LogCaptureFixture) -> None:
        """Where ``store_if`` raises, the response is kept: its view ran and must not run again."""
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
            ("404 Not Found", "404 Not Found"),
            ("299 My Own", "299 My Own"),
            ("404 Größe", "404 Größe"),
        ],
    )
    def test_r1_reason_phrase(self, given: int | str, kept: int | str) -> None:
        """The status is kept as the view gave it, in letters only where its phrase is its own."""
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
        """A status line that cannot be sent is kept as its code alone (RFC 9110, 15.1)."""
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
    @pytest.mark.parametrize("form", [str, str.lower, str.upper])
    def test_r1_dropped(self, name: str, form: Callable[[str], str]) -> None:
        """What belongs to one answer, caller or connection is not kept, however it is written."""
        response = Response(headers=[(form(name), "x"), ("X-Kept", "y")])
        kept = {name for name, _ in kept_headers(response, SETTINGS)}
        assert kept == {"X-Kept", "Content-Type"}

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
        """What ``Connection`` names belongs to the hop, even where ``keep_headers`` names it."""
        response = Response(headers=[("X-Hop", "1"), ("X-Kept", "2")])
        for value in connection:
            response.headers.add("Connection", value)
        settings = resolve({}, {"keep_headers": ["x-hop"]})
        names = [name for name, _ in kept_headers(response, settings)]
        assert "X-Kept" in names
        assert "X-Hop" not in names

    def test_r1_drop_headers(self) -> None:
        """The application may drop more, beside the list."""
        settings = resolve({}, {"drop_headers": ["x-own"]})
        response = Response(headers=[("X-Own", "1"), ("X-Kept", "2"), ("Server", "3")])
        names = {name for name, _ in kept_headers(response, settings)}
        assert names == {"X-Kept", "Content-Type"}

    @pytest.mark.parametrize("name", [*sorted(DROPPED - NEVER_KEPT), "access-control-max-age"])
    def test_r1_keep_headers(self, name: str) -> None:
        """The application may keep what is on the list and no part of a connection."""
        settings = resolve({}, {"keep_headers": [name.upper()]})
        assert (name, "1") in kept_headers(Response(headers=[(name, "1")]), settings)

    def test_r2_replay_header(self) -> None:
        """The replay's own mark is not kept, whatever its name."""
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
        """A URI is kept as Werkzeug sends it, whatever the view wrote."""
        response = Response(headers={name: given})
        assert (name, kept) in kept_headers(response, SETTINGS)
        assert response.get_wsgi_headers(EnvironBuilder().get_environ())[name] == kept

    @given(st.from_regex(_PLAIN_URI, fullmatch=True))
    def test_plain_uri(self, uri: str) -> None:
        """What looks plain can be sent: Werkzeug makes it a URI without an error."""
        assert iri_to_uri(uri).isascii()


class TestCapture:
    def test_as_it_is(self) -> None:
        """What can be sent is captured with its status and its headers."""
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
        """What Werkzeug takes from a view and no server may send is told before it is stored."""
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
        """R9: ``Cookie`` joins what ``Vary`` says; other headers keep their order."""
        headers = [("X-A", "1"), *(("vary", value) for value in before), ("X-B", "2")]
        assert varying_by_cookie(headers) == (("X-A", "1"), ("X-B", "2"), ("Vary", after))


class TestWatchBody:
    @pytest.mark.parametrize(
        ("response", "body"),
        [
            pytest.param(Response(b"\x00\xff"), b"\x00\xff", id="R5-binary"),
            pytest.param(Response("ü"), "ü".encode(), id="R5-text"),
            pytest.param(Response(), b"", id="R5-empty"),
            pytest.param(Response(["a", b"b", "c"]), b"abc", id="R5-list"),
            pytest.param(Response(("a", "b")), b"ab", id="R5-tuple"),
        ],
    )
    def test_at_once(self, response: Response, body: bytes) -> None:
        """A body that is there is told at once, and stays as it is."""
        finish, before = Finish(), response.response
        watch_body(response, 10, finish, finish.abandon)
        assert finish.told == [body]
        assert response.response == before
        assert response.get_data() == body

    @pytest.mark.parametrize("size", [9, 10, 11])
    @pytest.mark.parametrize("streamed", [False, True])
    def test_max_body(self, size: int, streamed: bool) -> None:
        """A body of exactly ``max_body`` is kept, one octet more is not; both are sent whole."""
        octets = b"x" * size
        response = Response(Stream(octets[:5], octets[5:]) if streamed else octets)
        finish = Finish()
        watch_body(response, 10, finish, finish.abandon)
        assert response.get_data() == octets
        assert finish.told == [octets if size <= 10 else None]

    def test_max_body_of_nothing(self) -> None:
        """With ``max_body=0`` an empty body is kept and no other."""
        finish = Finish()
        for content in (b"", b"x"):
            watch_body(Response(content), 0, finish, finish.abandon)
        assert finish.told == [b"", None]

    def test_r3_stream_stays_a_stream(self) -> None:
        """A stream is read as it is sent, not before; it is told when it ends."""
        stream, finish = Stream(b"a", "ü", b"c"), Finish()
        response = Response(stream)
        watch_body(response, 10, finish, finish.abandon)
        assert response.is_streamed
        assert stream.read == 0
        chunks = iter(response.response)
        assert (next(chunks), stream.read) == (b"a", 1)
        assert finish.told == []
        assert list(chunks) == ["ü".encode(), b"c"]
        assert finish.told == [b"a\xc3\xbcc"]

    def test_announced_too_large(self) -> None:
        """A stream that announces more than is kept is told at once and left alone."""
        stream, finish = Stream(b"a" * 11), Finish()
        response = Response(stream, headers={"Content-Length": "11"})
        watch_body(response, 10, finish, finish.abandon)
        assert finish.told == [None]
        assert response.response is stream

    def test_r3_direct_passthrough_stays(self) -> None:
        """A response that is passed through stays one, so that others treat it as without us."""
        finish, stream = Finish(), Stream(b"a", b"b")
        response = Response(stream, direct_passthrough=True)
        watch_body(response, 10, finish, finish.abandon)
        assert response.direct_passthrough
        body, _, _ = run_wsgi_app(response, EnvironBuilder().get_environ(), buffered=True)
        assert b"".join(body) == b"ab"
        assert (finish.told, stream.closed) == ([b"ab"], 1)

    def test_direct_passthrough_of_a_list(self) -> None:
        """So does one whose content is a list."""
        finish = Finish()
        response = Response([b"a", b"b"], direct_passthrough=True)
        watch_body(response, 10, finish, finish.abandon)
        body, _, _ = run_wsgi_app(response, EnvironBuilder().get_environ(), buffered=True)
        assert b"".join(body) == b"ab"
        assert finish.told == [b"ab"]

    @pytest.mark.parametrize("content", ["text", Stream(b"a")])
    def test_r5_no_content(self, content: Any) -> None:
        """A 204 has no body, whatever the view gave, and is told at once."""
        finish = Finish()
        watch_body(Response(content, status=204), 10, finish, finish.abandon)
        assert finish.told == [b""]


class TestTee:
    def make(self, stream: Stream, max_body: int = 10) -> tuple[Tee, Finish]:
        finish = Finish()
        return Tee(stream, stream, max_body, finish, finish.abandon), finish

    def test_end(self) -> None:
        """The content is told once, at the end; closing afterwards tells nothing more."""
        stream = Stream(b"a", b"b")
        tee, finish = self.make(stream)
        assert list(tee) == [b"a", b"b"]
        assert list(tee) == []
        tee.close()
        del tee
        assert finish.told == [b"ab"]
        assert stream.closed == 1

    @pytest.mark.parametrize("chunks", [0, 1])
    def test_early_close(self, chunks: int) -> None:
        """A stream closed before its end is not kept, and its source is closed."""
        stream = Stream(b"a", b"b")
        tee, finish = self.make(stream)
        for _ in range(chunks):
            next(tee)
        tee.close()
        assert (finish.told, stream.closed) == ([None], 1)

    @pytest.mark.parametrize(
        "error", [LookupError("broken"), SystemExit(1), GeneratorExit(), KeyboardInterrupt()]
    )
    def test_broken(self, error: BaseException) -> None:
        """A stream that breaks off is not kept, whatever broke it, and the error rises."""
        tee, finish = self.make(Stream(b"a", error=error))
        assert next(tee) == b"a"
        with pytest.raises(type(error)) as raised:
            next(tee)
        assert raised.value is error
        assert finish.told == [None]

    def test_collected(self) -> None:
        """A stream that nobody reads or closes is told as abandoned when it is collected."""
        tee, finish = self.make(Stream(b"a"))
        del tee
        gc.collect()
        assert finish.told == ["abandoned"]

    def test_too_large_is_told_while_it_runs(self) -> None:
        """A stream that grows too large is told then, keeps nothing and goes on whole."""
        tee, finish = self.make(Stream(b"a" * 6, b"b" * 6, b"c"))
        next(tee)
        assert finish.told == []
        next(tee)
        assert finish.told == [None]
        assert tee._seen == []
        assert list(tee) == [b"c"]
        assert finish.told == [None]

    def test_failing_close(self) -> None:
        """An error while the source is closed rises, and the stream is settled."""

        class Failing(Stream):
            def close(self) -> None:
                raise LookupError("cannot be closed")

        tee, finish = self.make(Failing(b"a"))
        with pytest.raises(LookupError):
            tee.close()
        assert finish.told == [None]

    def test_source_without_close(self) -> None:
        """A source need not be closable."""
        finish = Finish()
        tee = Tee([b"a"], object(), 10, finish, finish.abandon)
        assert list(tee) == [b"a"]
        tee.close()
        assert finish.told == [b"a"]


class TestReplay:
    def completed(self, **changes: Any) -> CompletedRecord:
        given = {"status": 200, "headers": (), "body": b"", **changes}
        return CompletedRecord(b"o" * 16, b"f" * 16, 1, **given)

    def test_r1_all_of_it(self) -> None:
        """Status, headers and body are the stored ones; Content-Length is made anew."""
        headers = (("Link", "</a>"), ("X-A", "1"), ("Link", "</b>"))
        completed = self.completed(status="299 Own", headers=headers, body=b"\x00")
        response = replay(completed, Response, SETTINGS)
        assert response.status == "299 Own"
        assert list(response.headers) == [
            *headers,
            ("Content-Length", "1"),
            ("Idempotent-Replayed", "true"),
        ]
        assert response.data == b"\x00"

    def test_r1_no_content_type_is_added(self) -> None:
        """A response without a Content-Type gets none."""
        assert "Content-Type" not in replay(self.completed(), Response, SETTINGS).headers

    def test_r1_no_length_on_204(self) -> None:
        """A 204 has no Content-Length; an empty 200 has one of 0."""
        assert (
            "Content-Length" not in replay(self.completed(status=204), Response, SETTINGS).headers
        )
        assert replay(self.completed(), Response, SETTINGS).headers["Content-Length"] == "0"

    def test_r2_the_mark_is_a_setting(self) -> None:
        """The header that marks a replay has the application's name."""
        response = replay(self.completed(), Response, resolve({"IDEMPOTENT_REPLAY_HEADER": "X-R"}))
        assert response.headers["X-R"] == "true"
        assert "Idempotent-Replayed" not in response.headers

    def test_class_is_the_applications(self) -> None:
        """A replay is a response of the application's own class."""

        class Own(Response):
            default_mimetype = "text/plain"

        assert type(replay(self.completed(), Own, SETTINGS)) is Own

    @pytest.mark.parametrize(
        "name",
        ["Set-Cookie", "set-cookie", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade",
         "Trailer", "Date", "Server", "WWW-Authenticate", "Access-Control-Allow-Origin",
         "X-RateLimit-Limit", "Idempotent-Replayed"],
    )  # fmt: skip
    def test_r12_never_kept_never_replayed(self, name: str) -> None:
        """What is never kept is not replayed either, though somebody wrote it into the record."""
        completed = self.completed(headers=((name, "1"), ("X-Own", "2"), (name, "3")), body=b"four")
        response = replay(completed, Response, SETTINGS)
        assert list(response.headers) == [
            ("X-Own", "2"),
            ("Content-Length", "4"),
            ("Idempotent-Replayed", "true"),
        ]

    def test_r12_settings_of_today(self) -> None:
        """A header that the application has come to drop is dropped, one that it keeps is kept."""
        completed = self.completed(headers=(("Server", "1"), ("X-Own", "2")))
        settings = resolve({}, {"drop_headers": ["x-own"], "keep_headers": ["server"]})
        names = [name for name, _ in replay(completed, Response, settings).headers]
        assert names == ["Server", "Content-Length", "Idempotent-Replayed"]

    @pytest.mark.parametrize("value", ["http://[", "http://a:99999/", "//[x]"])
    def test_r12_uri(self, value: str) -> None:
        """An address that Werkzeug cannot send makes the record unreadable."""
        completed = self.completed(headers=(("location", value),))
        with pytest.raises(RecordUnreadable, match="cannot be sent"):
            replay(completed, Response, SETTINGS)

    def test_r12_size(self) -> None:
        """A compressed body may be as large as the view's ``max_body``."""
        completed = self.completed(body=CompressedBody(zlib.compress(bytes(100)), 100))
        assert replay(completed, Response, resolve({}, {"max_body": 100})).data == bytes(100)
        with pytest.raises(RecordUnreadable, match="larger than max_body"):
            replay(completed, Response, resolve({}, {"max_body": 99}))


class Demanding(FlaskResponse):
    """A constructor with an argument of its own, which Flask itself never gives."""

    def __init__(self, *args: Any, tenant: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.headers["X-Tenant"] = tenant


class Adding(FlaskResponse):
    """A constructor that adds headers."""

    numbers = count(1)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.headers.add("X-Number", str(next(self.numbers)))
        self.headers.add("Link", "</docs>; rel=help")


class Typed(FlaskResponse):
    """Another type by default, and one that the constructor insists on."""

    default_mimetype = "application/json"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "text/html" in self.headers.get("Content-Type", ""):
            self.headers["Content-Type"] = "text/html; charset=iso-8859-1"


class TestResponseClasses:
    """R8: a replay does not call the constructor of the application's response class.

    Flask's own test client would: these send with Werkzeug's.
    """

    @pytest.mark.parametrize("cls", [Demanding, Adding, Typed])
    @pytest.mark.parametrize(
        "headers", [{}, {"Content-Type": "text/csv"}, {"Content-Type": "text/html"}]
    )
    def test_r8_replay_is_equal(
        self, make_app: MakeApp, cls: type[Response], headers: dict[str, str]
    ) -> None:
        """R8: a replay has the class and the headers of the first response, none added again."""
        app = make_app()
        app.response_class = cls  # type: ignore[assignment]
        seen: list[type] = []
        app.after_request(lambda response: seen.append(type(response)) or response)

        @app.post("/")
        def view() -> Response:
            response = cls("text", **({"tenant": "a"} if cls is Demanding else {}))
            response.headers.extend(headers)
            return response

        first, retry = (Client(app).post("/", headers=KEY) for _ in range(2))
        assert retry.headers.pop("Idempotent-Replayed") == "true"
        assert sorted(retry.headers) == sorted(first.headers)
        assert (retry.status, retry.data) == (first.status, first.data)
        assert seen == [cls, cls]

    @pytest.mark.parametrize("cls", [Adding, Typed])
    def test_r8_no_type(self, make_app: MakeApp, cls: type[Response]) -> None:
        """R8: a response without a type has none in its replay, whatever the class's default."""
        app = make_app()
        app.response_class = cls  # type: ignore[assignment]

        @app.post("/")
        def view() -> Response:
            response = cls("text")
            response.headers.remove("Content-Type")
            return response

        for _ in range(2):
            assert "Content-Type" not in Client(app).post("/", headers=KEY).headers


# The same on a whole application: each view once without us, then first and replay with us.


def no_content() -> Any:
    return "", 204


def no_content_with_text() -> Any:
    return "dropped", 204


def see_other() -> Any:
    return redirect("/done?ü=1", 303)


def created() -> Any:
    return {"id": 7}, 201, {"Location": "/orders/7", "ETag": '"v1"', "Link": "</a>; rel=a"}


def two_links() -> Any:
    response = Response("x")
    for value in ("</a>; rel=a", "</b>; rel=b"):
        response.headers.add("Link", value)
    return response


def binary() -> Any:
    return Response(bytes(range(256)) * 40, mimetype="application/octet-stream")


def empty() -> Any:
    return ""


def latin_1_headers() -> Any:
    return "x", {"X-Name": "J\xfcrgen \xa3", "Content-Disposition": "attachment; filename=\xe9"}


def as_json() -> Any:
    return [1, None, {"ü": "鍵"}]


def problem() -> Any:
    return {"title": "no"}, 422, {"Content-Type": "application/problem+json"}


def own_phrase() -> Any:
    return "x", "299 Very Fine"


def generator() -> Any:
    return Response(str(number) for number in range(100))


def empty_generator() -> Any:
    return Response(iter(()))


def with_context() -> Any:
    return Response(stream_with_context(request.method for _ in range(3)))


def file_on_disk() -> Any:
    return send_file(__file__)


def file_in_memory() -> Any:
    return send_file(io.BytesIO(b"\x00" * 1000), "image/png", True, "ü.png")


def untyped() -> Any:
    response = Response("x")
    del response.headers["Content-Type"]
    return response


VIEWS = [
    no_content, no_content_with_text, see_other, created, two_links, binary, empty, latin_1_headers,
    as_json, problem, own_phrase, generator, empty_generator, with_context, file_on_disk,
    file_in_memory, untyped,
]  # fmt: skip


def headers_of(answer: TestResponse) -> list[tuple[str, str]]:
    """The headers, but for those that are made for each answer and the mark of a replay."""
    made = ("date", "content-length", "idempotent-replayed")
    return [(name, value) for name, value in answer.headers if name.lower() not in made]


def serve(app: Flask, view: Callable[[], Any], **options: Any) -> Flask:
    app.add_url_rule("/", view_func=view, methods=["GET", "POST"], **options)
    return app


@pytest.fixture(name="app")
def _app(make_app: MakeApp) -> Flask:
    """An application whose duplicates do not wait: what is not settled is seen at once."""
    return make_app(timeout=0)


class TestOnFlask:
    @pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
    def test_r3_r5_first_and_replay(self, make_app: MakeApp, view: Callable[[], Any]) -> None:
        """The first answer is what it is without us, and its replay is equal, octet for octet."""
        without = serve(make_app(wide=False), view).test_client()
        plain = without.post("/", headers=KEY, buffered=True)
        client = serve(make_app(timeout=0), view).test_client()
        first, again = (client.post("/", headers=KEY, buffered=True) for _ in range(2))
        for answer in (first, again):
            assert answer.status == plain.status
            assert answer.data == plain.data
            assert headers_of(answer) == headers_of(plain)
        assert first.headers.get("Content-Length") == plain.headers.get("Content-Length")
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        length = None if again.status_code == 204 else str(len(again.data))
        assert again.headers.get("Content-Length") == length

    def test_r1_cookies_are_not_replayed(self, app: Flask) -> None:
        """A cookie goes to the first caller alone."""
        serve(app, lambda: ("x", {"Set-Cookie": "a=1"}))
        client = app.test_client(use_cookies=False)
        assert client.post("/", headers=KEY).headers["Set-Cookie"] == "a=1"
        assert "Set-Cookie" not in client.post("/", headers=KEY).headers

    @pytest.mark.parametrize("streamed", [False, True])
    def test_r3_call_on_close(self, app: Flask, streamed: bool) -> None:
        """What a view wants done at the end is done once, at the end, and not at a replay."""
        closed = []

        def view() -> Response:
            response = Response(iter(["a", "b"]) if streamed else "ab")
            response.call_on_close(lambda: closed.append(1))
            return response

        client = serve(app, view).test_client()
        for _ in range(2):
            with client.post("/", headers=KEY) as answer:
                assert answer.data == b"ab"
        assert closed == [1]

    def test_r3_first_chunk_comes_first(self, app: Flask) -> None:
        """A stream's first chunk is sent before its second is made."""
        made = []

        def chunks() -> Iterator[str]:
            for number in range(3):
                made.append(number)
                yield str(number)

        serve(app, lambda: Response(chunks()))
        body, _, _ = run_wsgi_app(app, environ())
        assert next(iter(body)) == b"0"
        assert len(made) < 3
        assert b"".join(body) == b"12"

    @pytest.mark.parametrize(
        "read",
        [
            pytest.param(0, id="unread"),
            pytest.param(1, id="half-read"),
        ],
    )
    def test_broken_off_by_the_client(self, app: Flask, read: int) -> None:
        """A stream whose client goes away is not kept: a retry is told so and runs nothing."""
        runs = []

        def view() -> Response:
            runs.append(1)
            return Response(str(number) for number in range(9))

        serve(app, view)
        body = app.wsgi_app(environ(), lambda *_: lambda _: None)
        for _ in range(read):
            next(iter(body))
        body.close()  # type: ignore[attr-defined]
        assert_not_kept(app)
        assert runs == [1]

    def test_broken_by_the_view(self, app: Flask) -> None:
        """A stream that raises is not kept, and its error reaches the server."""

        def chunks() -> Iterator[str]:
            yield "a"
            raise LookupError("half-way")

        serve(app, lambda: Response(chunks()))
        with pytest.raises(LookupError):
            app.test_client().post("/", headers=KEY, buffered=True)
        assert_not_kept(app)

    def test_replaced_by_after_request(self, app: Flask) -> None:
        """A stream that nobody reads, because its response was replaced, is settled."""
        app.after_request(lambda _: Response("instead"))
        serve(app, lambda: Response(iter(["a"])))
        assert app.test_client().post("/", headers=KEY).data == b"instead"
        gc.collect()
        app.after_request_funcs.clear()
        assert_not_kept(app)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_max_body(self, make_app: MakeApp, streamed: bool) -> None:
        """A body over ``max_body`` reaches the first caller whole, and a retry gets 409."""

        def view() -> Response:
            return Response(iter([b"x" * 60, b"x" * 60]) if streamed else b"x" * 120)

        app = serve(make_app(max_body=100, timeout=0), view)
        first = app.test_client().post("/", headers=KEY)
        assert (first.status_code, len(first.data)) == (200, 120)
        assert_not_kept(app)

    def test_max_body_of_a_file(self, make_app: MakeApp, tmp_path: Path) -> None:
        """So does a file that is too large."""
        (tmp_path / "file").write_bytes(b"x" * 101)
        app = serve(make_app(max_body=100, timeout=0), lambda: send_file(tmp_path / "file"))
        first = app.test_client().post("/", headers=KEY, buffered=True)
        assert len(first.data) == 101
        assert_not_kept(app)

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            pytest.param({"Range": "bytes=0-3"}, 206, id="R6-206"),
            pytest.param({"If-None-Match": '"v1"'}, 304, id="R6-304"),
        ],
    )
    def test_parts_are_passed_through(
        self, make_app: MakeApp, headers: dict[str, str], status: int
    ) -> None:
        """A 206 and a 304 of a view reach the client and are never stored."""
        app = make_app(store_if=lambda response: True)

        @app.get("/")
        def view() -> Any:
            return send_file(io.BytesIO(b"0123456789"), "text/plain", conditional=True, etag="v1")

        client = app.test_client()
        for _ in range(2):
            answer = client.get("/", headers={**KEY, **headers})
            assert answer.status_code == status
            assert answer.data == (b"0123" if status == 206 else b"")
            assert "Idempotent-Replayed" not in answer.headers

    def test_r3_stream_of_the_request(self, app: Flask) -> None:
        """A response may be made of the request's stream, read after the request has ended."""

        def view() -> Response:
            stream = request.stream
            return Response(iter(lambda: stream.read(3), b""))

        client = serve(app, view).test_client()
        for _ in range(2):
            assert client.post("/", data=b"0123456789", headers=KEY).data == b"0123456789"


def environ() -> dict[str, Any]:
    return EnvironBuilder(method="POST", headers=KEY).get_environ()


def assert_not_kept(app: Flask) -> None:
    answer = app.test_client().post("/", headers=KEY)
    assert answer.status_code == 409
    document = answer.get_json(force=True)
    assert document["type"] == "urn:flask-idempotent:problem:response-not-kept"
