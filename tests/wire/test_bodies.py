"""Bodies on the wire: whole or refused, and as untouched for the view as without the library."""

from __future__ import annotations

import pytest

from tests.wire.bodies import FILE, LIMIT, answer_if_any, each_body, seen
from tests.wire.client import (
    BINARY,
    CHUNKED,
    JSON,
    MULTIPART,
    URLENCODED,
    chunks,
    head,
    message,
)
from tests.wire.conftest import Wire


class TestTruncated:
    """A client goes away before its body's end."""

    @each_body
    @pytest.mark.parametrize("sent", [0, 4, -1])
    def test_w4_half_closed(
        self, wire: Wire, content_type: tuple[str, str], body: bytes, sent: int
    ) -> None:
        """A body shorter than its Content-Length gets 400 and claims nothing; the key is free."""
        whole = message("POST", wire.path("echo"), [wire.key, content_type], body)
        cut = whole[: len(whole) - len(body) + sent % len(body)]
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
        request = head("POST", wire.path(limited + "echo"), [wire.key, JSON, CHUNKED])
        with wire.connected(request + body) as connection:
            connection.half_close()
            answer = answer_if_any(wire, connection)
        if answer is not None:
            assert answer.problem == (400, "body-incomplete")
        assert wire.nothing_happened()
        assert seen(wire.exchange(request + chunks(b"hello"))) == b"hello"

    @pytest.mark.parametrize("body", [b"xyz\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n"])
    def test_w4_broken_chunks(self, wire: Wire, body: bytes) -> None:
        """A body with malformed chunks gets 400, from the server or from the library."""
        request = head("POST", wire.path("echo"), [wire.key, BINARY, CHUNKED]) + body
        assert wire.exchange(request).status == 400
        assert wire.nothing_happened()


class TestTooLarge:
    """MAX_CONTENT_LENGTH."""

    @pytest.mark.parametrize("content_type", [BINARY, JSON, URLENCODED])
    @pytest.mark.parametrize("view", ["limited/echo", "after-form/limited/form"])
    @pytest.mark.parametrize(
        "sizes",
        [
            pytest.param([LIMIT], id="one-chunk"),
            pytest.param([LIMIT - 1, 1], id="a-last-byte"),
            pytest.param([1, 65_535, LIMIT - 65_536], id="piece"),
            pytest.param([1000] * (LIMIT // 1000), id="many"),
        ],
    )
    def test_w4_chunked(
        self, wire: Wire, view: str, content_type: tuple[str, str], sizes: list[int]
    ) -> None:
        """A chunked body of exactly the limit is served whole; one byte more gets 413."""
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

    @pytest.mark.parametrize("content_type", [BINARY, JSON, URLENCODED])
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
            pytest.param([b"x"], id="one-byte"),
            pytest.param([b"a", b"bc", b"def"] * 50, id="small-chunks"),
            pytest.param([bytes(range(256)) * 300], id="one-large-chunk"),
            pytest.param([bytes(range(256)) * 40] * 60, id="more-than-memory"),
        ],
    )
    def test_f3_whole(self, wire: Wire, pieces: list[bytes]) -> None:
        """The view sees a chunked body whole, and its retry in other chunks is the same request."""
        body = b"".join(pieces)
        start = head("POST", wire.path("echo"), [wire.key, BINARY, CHUNKED])
        assert seen(wire.exchange(start + chunks(*pieces))) == body
        if body:
            assert wire.exchange(start + chunks(body[:1], *filter(None, [body[1:]]))).replayed
        else:
            assert wire.exchange(start + chunks()).replayed

    def test_f1_chunked_or_not(self, wire: Wire) -> None:
        """How a body is framed makes no difference."""
        headers = [wire.key, JSON]
        assert seen(wire.ask("echo", headers, b'{"a": 1}')) == b'{"a": 1}'
        request = head("POST", wire.path("echo"), [*headers, CHUNKED]) + chunks(b'{"a"', b": 1}")
        assert wire.exchange(request).replayed

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
