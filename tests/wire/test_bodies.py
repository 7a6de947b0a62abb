"""Bodies on the wire: whole or refused, and as untouched for the view as without the library."""

from __future__ import annotations

import base64
from contextlib import suppress
from itertools import cycle

import pytest

from tests.wire.client import (
    CHUNKED,
    JSON,
    MULTIPART,
    OCTETS,
    URLENCODED,
    Answer,
    Connection,
    chunks,
    head,
    message,
)
from tests.wire.conftest import Wire

LIMIT = 100_000
FILE = b"""--b\r
Content-Disposition: form-data; name="a"\r
\r
1\r
--b\r
Content-Disposition: form-data; name="f"; filename="f.bin"\r
Content-Type: application/octet-stream\r
X-Part: kept\r
\r
%s\r
--b--\r
"""
EVERY_OCTET = bytes(range(256)) * 20
#: More than is kept in memory, in short lines and long ones.
LARGE = (b"\n\r\n\x00" * 5 + b"x" * 4200) * 130
BODIES = {
    "urlencoded": (URLENCODED, b"a=1&b=%C3%BC&a=2"),
    "multipart": (MULTIPART, FILE % EVERY_OCTET),
    "json": (JSON, b'{"a": [1, 2, "three", null]}'),
    "octets": (OCTETS, EVERY_OCTET),
}
each_body = pytest.mark.parametrize(("content_type", "body"), BODIES.values(), ids=BODIES)


def seen(answer: Answer) -> bytes:
    """The body that the view of ``echo`` read."""
    assert answer.status == 200, answer.body
    return base64.b64decode(answer.json["body"])


def answer_if_any(wire: Wire, connection: Connection) -> Answer | None:
    """Read the answer to a request that ended too early; a server may see no request at all."""
    try:
        return connection.answer()
    except (EOFError, ConnectionResetError):
        assert wire.reads_all_first
        return None


class TestTruncated:
    """A client goes away before its body's end."""

    @each_body
    @pytest.mark.parametrize("octets", [0, 4, -1])
    def test_w4_half_closed(
        self, wire: Wire, content_type: tuple[str, str], body: bytes, octets: int
    ) -> None:
        """A body shorter than its Content-Length gets 400 and claims nothing; the key is free."""
        whole = message("POST", wire.path("echo"), [wire.key, content_type], body)
        cut = whole[: len(whole) - len(body) + octets % len(body)]
        with wire.connected(cut) as connection:
            connection.half_close()
            answer = answer_if_any(wire, connection)
        if answer is not None:
            assert answer.problem == (400, "body-incomplete")
            wire.done()
        assert wire.nothing_happened()
        assert seen(wire.exchange(whole)) == body

    @each_body
    @pytest.mark.parametrize("way", ["close", "reset"])
    def test_w4_gone(
        self, wire: Wire, content_type: tuple[str, str], body: bytes, way: str
    ) -> None:
        """A client that vanishes in the middle of its body has run and claimed nothing."""
        whole = message("POST", wire.path("echo"), [wire.key, content_type], body)
        connection = wire.connected(whole[:-3])
        if way == "reset":
            # A server that has not looked yet never sees this request.
            connection.reset()
        else:
            connection.close()
            if not wire.reads_all_first:
                wire.done()
        assert seen(wire.exchange(whole)) == body
        assert wire.runs == 1

    @pytest.mark.parametrize("way", ["header", "field"])
    def test_w4_no_key_in_half_a_form(self, wire: Wire, way: str) -> None:
        """Half a form is refused wherever its key stands, also where half the key is a key."""
        body = b"a=1&__idempotent_key=" + wire.key[1].encode()
        headers = [URLENCODED] + ([wire.key] if way == "header" else [])
        whole = message("POST", wire.path("echo"), headers, body)
        with wire.connected(whole[:-4]) as connection:
            connection.half_close()
            answer = answer_if_any(wire, connection)
        assert answer is None or answer.problem == (400, "body-incomplete")
        assert wire.nothing_happened()
        assert seen(wire.exchange(whole)) == body

    @pytest.mark.parametrize("limited", ["", "limited/"])
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"5\r\nhel", id="in-a-chunk"),
            pytest.param(b"5\r\nhello\r\n", id="between-chunks"),
            pytest.param(b"5\r\nhello\r\n0\r\n", id="before-the-last-line"),
            pytest.param(b"5\r\nhello\r\n5", id="in-a-size"),
        ],
    )
    def test_w4_chunked(self, wire: Wire, body: bytes, limited: str) -> None:
        """A chunked body without its end gets 400 and claims nothing; the key is free."""
        octets = head("POST", wire.path(limited + "echo"), [wire.key, JSON, CHUNKED])
        with wire.connected(octets + body) as connection:
            connection.half_close()
            answer = answer_if_any(wire, connection)
        if answer is not None:
            assert answer.problem == (400, "body-incomplete")
        assert wire.nothing_happened()
        assert seen(wire.exchange(octets + chunks(b"hello"))) == b"hello"

    @pytest.mark.parametrize("body", [b"xyz\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n"])
    def test_w4_broken_chunks(self, wire: Wire, body: bytes) -> None:
        """A body whose chunks are none gets 400, from whoever sees it first."""
        octets = head("POST", wire.path("echo"), [wire.key, OCTETS, CHUNKED]) + body
        assert wire.exchange(octets).status == 400
        assert wire.nothing_happened()


class TestReadBefore:
    """A ``before_request`` function has read a body that was cut short."""

    @pytest.mark.parametrize(
        "app",
        [
            "after-form", "after-data", "after-touch", "after-form/limited",
            "after-form/decorated", "after-data/decorated",
        ],
    )  # fmt: skip
    @each_body
    def test_w4_half_a_body(
        self, wire: Wire, app: str, content_type: tuple[str, str], body: bytes
    ) -> None:
        """Half a body is refused and claims nothing, also when somebody read it before."""
        whole = message("POST", wire.path(f"{app}/echo"), [wire.key, content_type], body)
        with wire.connected(whole[:-4]) as connection:
            connection.half_close()
            answer = answer_if_any(wire, connection)
        assert answer is None or answer.status == 400
        assert wire.nothing_happened()
        assert wire.exchange(whole).json["run"] == 1
        assert wire.exchange(whole).replayed

    @pytest.mark.parametrize("app", ["after-form", "after-form/decorated"])
    def test_w4_form_is_ours_to_refuse(self, wire: Wire, app: str) -> None:
        """Where the server delivers half a form without a word, the problem is ours."""
        if not wire.is_gunicorn:
            pytest.skip("only gunicorn does")
        body = b"a=1&b=2"
        whole = message("POST", wire.path(f"{app}/echo"), [wire.key, URLENCODED], body)
        with wire.connected(whole[:-4]) as connection:
            connection.half_close()
            assert connection.answer().problem == (400, "body-incomplete")

    @pytest.mark.parametrize("app", ["after-form", "after-form/decorated"])
    def test_w4_exempt(self, wire: Wire, app: str) -> None:
        """An exempt view and a request without a key are served half a body as without us."""
        if not wire.is_gunicorn:
            pytest.skip("only gunicorn serves half a form")
        for view, headers in (("exempt", [wire.key, URLENCODED]), ("echo", [JSON])):
            whole = message("POST", wire.path(f"{app}/{view}"), headers, b"a=1&b=2")
            with wire.connected(whole[:-4]) as connection:
                connection.half_close()
                assert connection.answer().status == 200
        assert wire.runs == 2
        assert wire.records == 0

    @pytest.mark.parametrize("app", ["after-form", "after-data", "after-touch"])
    @each_body
    def test_f1_fingerprint(
        self, wire: Wire, app: str, content_type: tuple[str, str], body: bytes
    ) -> None:
        """A body that was read before is still told from another."""
        octets = [wire.key, content_type]
        other = body.replace(b"1", b"9").replace(b"\x10\x11", b"\x11\x10")
        assert wire.ask(f"{app}/echo", octets, body).json["run"] == 1
        assert wire.ask(f"{app}/echo", octets, other).problem == (422, "key-reused")
        assert wire.ask(f"{app}/echo", octets, body).replayed


class TestTooLarge:
    """MAX_CONTENT_LENGTH."""

    @pytest.mark.parametrize("content_type", [OCTETS, JSON, URLENCODED])
    @pytest.mark.parametrize("view", ["limited/echo", "after-form/limited/form"])
    @pytest.mark.parametrize(
        "sizes",
        [
            pytest.param([LIMIT], id="one-chunk"),
            pytest.param([LIMIT - 1, 1], id="a-last-octet"),
            pytest.param([1, 65_535, LIMIT - 65_536], id="piece"),
            pytest.param([1000] * (LIMIT // 1000), id="many"),
        ],
    )
    def test_w4_chunked(
        self, wire: Wire, view: str, content_type: tuple[str, str], sizes: list[int]
    ) -> None:
        """A chunked body of exactly the limit is served whole; one octet more gets 413."""
        start = head("POST", wire.path(view), [wire.key, content_type, CHUNKED])
        pieces = [b"x" * size for size in sizes]
        too_large = wire.exchange(start + chunks(*pieces, b"x"))
        assert too_large.status == 413
        assert wire.nothing_happened()
        fits = wire.exchange(start + chunks(*pieces))
        assert fits.json["run"] == 1
        if view == "limited/echo":
            assert len(seen(fits)) == LIMIT
        elif content_type is URLENCODED:
            assert fits.json["form"] == ["x" * LIMIT]

    @pytest.mark.parametrize("content_type", [OCTETS, JSON, URLENCODED])
    def test_w4_announced(self, wire: Wire, content_type: tuple[str, str]) -> None:
        """So is a body that says its length, and 413 needs none of it."""
        headers = [wire.key, content_type]
        assert wire.ask("limited/echo", headers, b"x" * (LIMIT + 1)).status == 413
        assert wire.nothing_happened()
        assert len(seen(wire.ask("limited/echo", headers, b"x" * LIMIT))) == LIMIT


class TestChunked:
    @pytest.mark.parametrize(
        "pieces",
        [
            pytest.param([], id="empty"),
            pytest.param([b"x"], id="one-octet"),
            pytest.param([b"a", b"bc", b"def"] * 50, id="small-chunks"),
            pytest.param([bytes(range(256)) * 300], id="one-large-chunk"),
            pytest.param([bytes(range(256)) * 40] * 60, id="more-than-memory"),
        ],
    )
    def test_f3_whole(self, wire: Wire, pieces: list[bytes]) -> None:
        """The view sees a chunked body whole, and its retry in other chunks is the same request."""
        body = b"".join(pieces)
        start = head("POST", wire.path("echo"), [wire.key, OCTETS, CHUNKED])
        assert seen(wire.exchange(start + chunks(*pieces))) == body
        if body:
            assert wire.exchange(start + chunks(body[:1], *filter(None, [body[1:]]))).replayed
        else:
            assert wire.exchange(start + chunks()).replayed

    def test_f1_chunked_or_not(self, wire: Wire) -> None:
        """How a body is framed makes no difference."""
        headers = [wire.key, JSON]
        assert seen(wire.ask("echo", headers, b'{"a": 1}')) == b'{"a": 1}'
        octets = head("POST", wire.path("echo"), [*headers, CHUNKED]) + chunks(b'{"a"', b": 1}")
        assert wire.exchange(octets).replayed

    @pytest.mark.parametrize("content_type", [URLENCODED, MULTIPART])
    def test_k7_key_in_a_chunked_form(self, wire: Wire, content_type: tuple[str, str]) -> None:
        """The key is found in a chunked form, also where a chunk ends inside it."""
        body = b"a=1&__idempotent_key=" + wire.key[1].encode()
        if content_type is MULTIPART:
            body = (FILE % b"file").replace(
                b'name="a"\r\n\r\n1', b'name="__idempotent_key"\r\n\r\nk'
            )
        start = head("POST", wire.path("echo"), [content_type, CHUNKED])
        for cut in (10, 30):
            answer = wire.exchange(start + chunks(body[:cut], body[cut:]))
            assert seen(answer) == body
        assert answer.replayed


#: How a view may read its request.
READERS = (
    "data", "get_data", "stream", "stream-lines", "stream-pieces", "form", "values",
    "files", "json", "form-then-data", "data-then-form",
)  # fmt: skip
ODD_BODIES = {
    "empty-form": (URLENCODED, b""),
    "odd-form": (URLENCODED, b"a=\xff&b=%FF&=&&c"),
    "malformed-multipart": (MULTIPART, b"no parts"),
    "no-boundary": (("Content-Type", "multipart/form-data"), b"a=1"),
    "malformed-json": (JSON, b"{malformed"),
    "empty-json": (JSON, b""),
    "no-type": (("X-No", "type"), b"octets"),
    "no-body": (("X-No", "type"), None),
}
LARGE_BODIES = {"large-file": (MULTIPART, FILE % LARGE), "large": (OCTETS, LARGE)}


#: An ordinary body meets every reader; an odd one meets four, the next one the next four.
BODIES_AND_READERS = [
    *((*body, READERS) for body in BODIES.values()),
    *((*body, (READERS * 4)[4 * n : 4 * n + 4]) for n, body in enumerate(ODD_BODIES.values())),
    *((*body, ("stream-pieces", "files", "data")) for body in LARGE_BODIES.values()),
]


class TestUntouched:
    """What the view sees, next to an exempt twin of it."""

    @pytest.mark.parametrize(
        ("content_type", "body", "readers"),
        BODIES_AND_READERS,
        ids=[*BODIES, *ODD_BODIES, *LARGE_BODIES],
    )
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_f3(
        self,
        wire: Wire,
        content_type: tuple[str, str],
        body: bytes | None,
        readers: tuple[str, ...],
        framing: str,
    ) -> None:
        """Each way to read a request gives what it gives without the library."""
        for reader in readers:
            key = ("Idempotency-Key", f"{wire.key[1]}-{reader}")
            answers = [
                self.exchange(wire, f"/{prefix}look/{reader}", [key, content_type], body, framing)
                for prefix in ("", "exempt/")
            ]
            assert answers[0].status == answers[1].status, reader
            assert answers[0].body == answers[1].body, reader
        assert wire.records > 0

    @each_body
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_f3_without_a_key(
        self, wire: Wire, content_type: tuple[str, str], body: bytes, framing: str
    ) -> None:
        """So it does for a request without a key, of which nothing is stored."""
        for reader, app in zip(READERS, cycle(["", "limited/"]), strict=False):
            answers = [
                self.exchange(wire, f"/{app}{prefix}look/{reader}", [content_type], body, framing)
                for prefix in ("", "exempt/")
            ]
            assert answers[0].status == answers[1].status, reader
            assert answers[0].body == answers[1].body, reader
        assert wire.records == 0

    def exchange(
        self,
        wire: Wire,
        path: str,
        headers: list[tuple[str, str]],
        body: bytes | None,
        framing: str,
    ) -> Answer:
        if framing == "length" or body is None:
            return wire.exchange(message("POST", path, headers, body))
        pieces = [piece for piece in (body[:5], body[5:]) if piece]
        return wire.exchange(head("POST", path, [*headers, CHUNKED]) + chunks(*pieces))

    def test_f3_input(self, wire: Wire) -> None:
        """The server's own stream gives the body too, for a view that reads it there."""
        answers = [
            wire.exchange(message("POST", path, [wire.key, OCTETS], EVERY_OCTET))
            for path in ("/look/input", "/exempt/look/input")
        ]
        assert answers[0].body == answers[1].body


class TestExpect:
    """``Expect: 100-continue``: the client waits before it sends its body."""

    EXPECT = ("Expect", "100-continue")

    @each_body
    def test_h10_body_after_100(
        self, wire: Wire, content_type: tuple[str, str], body: bytes
    ) -> None:
        """The client gets its 100, sends its body and is served; so is its retry."""
        headers = [wire.key, content_type, self.EXPECT, ("Content-Length", str(len(body)))]
        for _ in range(2):
            with wire.connected(head("POST", wire.path("echo"), headers)) as connection:
                assert connection.head().status == 100
                connection.send(body)
                answer = connection.answer()
                assert seen(answer) == body
        assert answer.replayed

    def test_h10_early_answer(self, wire: Wire) -> None:
        """A bad key is refused without its body, but by a server that reads bodies first."""
        headers = [("Idempotency-Key", ""), JSON, self.EXPECT, ("Content-Length", "5")]
        with wire.connected(head("POST", wire.path("echo"), headers)) as connection:
            if wire.reads_all_first:
                assert connection.head().status == 100
                connection.send(b"12345")
            assert connection.answer().problem == (400, "key-invalid")
        assert wire.nothing_happened()

    def test_h10_too_large(self, wire: Wire) -> None:
        """A body over the limit is refused before it is sent, but by such a server."""
        headers = [wire.key, OCTETS, self.EXPECT, ("Content-Length", str(LIMIT + 1))]
        with wire.connected(head("POST", wire.path("limited/echo"), headers)) as connection:
            if wire.reads_all_first:
                assert connection.head().status == 100
                connection.send(b"x" * (LIMIT + 1))
            assert connection.answer().status == 413
        assert wire.nothing_happened()

    def test_w4_gone_after_100(self, wire: Wire) -> None:
        """A client that goes away after its 100 has claimed nothing."""
        start = head(
            "POST",
            wire.path("echo"),
            [wire.key, JSON, self.EXPECT, ("Content-Length", "5")],
        )
        with wire.connected(start) as connection:
            assert connection.head().status == 100
            connection.half_close()
            answer = answer_if_any(wire, connection)
            assert answer is None or answer.problem == (400, "body-incomplete")
        assert wire.nothing_happened()
        with wire.connected(start) as connection:
            assert connection.head().status == 100
            connection.send(b"12345")
            assert seen(connection.answer()) == b"12345"


class TestNextRequest:
    """What follows a problem on the same connection."""

    #: A body that would be another request, were it not read or the connection not closed.
    SMUGGLED = b"POST /echo/smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"

    @pytest.fixture(params=["in-turn", "pipelined"])
    def pipelined(self, request: pytest.FixtureRequest) -> bool:
        """Whether the client waits for an answer before it sends the next request."""
        return bool(request.param == "pipelined")

    def followed(self, wire: Wire, octets: bytes, status: int, pipelined: bool) -> None:
        """The connection takes the next request, or is closed; never anything else."""
        following = message("POST", "/alive", [("Connection", "close")], b"")
        with wire.connected(octets + (following if pipelined else b"")) as connection:
            first = connection.answer()
            assert first.status == status
            if first.stays_open and not pipelined:
                connection.send(following)
            with suppress(OSError):
                # The server may have closed.
                connection.half_close()
            rest = connection.rest()
        if rest:
            assert first.stays_open
            assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
            assert rest.endswith(b"\r\n\r\nalive")
            assert rest.count(b"HTTP/1.1") == 1

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize(
        ("view", "key", "content_type", "status"),
        [
            pytest.param("echo", "", OCTETS, 400, id="key-invalid"),
            pytest.param("echo", "", URLENCODED, 400, id="key-invalid-form"),
            pytest.param("required", None, OCTETS, 400, id="key-missing"),
            pytest.param("limited/echo", "k", OCTETS, 413, id="too-large"),
            pytest.param("slash", "k", OCTETS, 308, id="redirect"),
            pytest.param("nowhere", "k", OCTETS, 404, id="not-found"),
            pytest.param("echo", "k", OCTETS, 200, id="served"),
        ],
    )
    def test_m9_after(
        self,
        wire: Wire,
        pipelined: bool,
        framing: str,
        view: str,
        key: str | None,
        content_type: tuple[str, str],
        status: int,
    ) -> None:
        """After a problem the connection is usable or closed; no body is taken for a request."""
        headers = [content_type] + ([] if key is None else [("Idempotency-Key", key)])
        body = self.SMUGGLED
        if status == 413:
            body += b"x" * (LIMIT + 1 - len(body))
        if framing == "length":
            octets = message("POST", wire.path(view), headers, body)
        else:
            octets = head("POST", wire.path(view), [*headers, CHUNKED]) + chunks(body)
        self.followed(wire, octets, status, pipelined)
        assert wire.runs == (1 if status == 200 else 0)

    def test_m9_after_409(self, wire: Wire, pipelined: bool) -> None:
        """So it is after 409 in-progress."""
        octets = message("POST", wire.path("busy"), [wire.key, OCTETS], self.SMUGGLED)
        with wire.connected(octets) as owner:
            wire.reached()
            self.followed(wire, octets, 409, pipelined)
            wire.open()
            assert owner.answer().status == 200

    def test_m9_after_422(self, wire: Wire, pipelined: bool) -> None:
        """So it is after 422 key-reused."""
        wire.ask("echo", [wire.key, OCTETS], b"other")
        octets = message("POST", wire.path("echo"), [wire.key, OCTETS], self.SMUGGLED)
        self.followed(wire, octets, 422, pipelined)
        assert wire.runs == 1
