"""F8 on the wire: what was read of a body before is compared too, on every server."""

from __future__ import annotations

import itertools

import pytest

from tests.wire.client import CHUNKED, JSON, MULTIPART, URLENCODED, Answer, chunks, head, message
from tests.wire.conftest import Wire
from tests.wire.readers import READERS

FILE = (
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\nContent-Type: a/b\r\n\r\n'
    b"eight bytes, and then %b\r\n--b--\r\n"
)
BODIES = {JSON: b'{"pay": %b}', URLENCODED: b"pay=%b", MULTIPART: FILE}
FRAMINGS = ["length", "chunked"]
FILE_READERS = {"files", "file-peek"}


def send(
    wire: Wire, path: str, headers: list[tuple[str, str]], body: bytes, framing: str
) -> Answer:
    """Send a body, in two chunks where it is chunked."""
    path = f"/{path}/{wire.case}"
    if framing == "length":
        return wire.exchange(message("POST", path, headers, body))
    return wire.exchange(head("POST", path, [*headers, CHUNKED]) + chunks(body[:9], body[9:]))


class TestReader:
    @pytest.mark.parametrize(
        "where", ["before-request", "before-request/decorated", "above", "key", "key/decorated"]
    )
    def test_f8_compared_and_put_back(self, wire: Wire, where: str) -> None:
        """F8: another payload is refused, a retry replayed, and the view reads what it would read
        without us."""
        cases = itertools.product(READERS, BODIES.items())
        for number, (reader, (content_type, body)) in enumerate(cases):
            if reader in FILE_READERS and content_type is not MULTIPART:
                continue
            headers = [content_type, ("X-Reader", reader)]
            keyed = [*headers, ("Idempotency-Key", f"{wire.case}-{number}")]
            # Each reader meets each type, view and framing, though not all of their combinations.
            view, framing = ("form", "stream")[number % 2], FRAMINGS[number // 2 % 2]
            what = (reader, content_type, view, framing)
            expected = send(wire, f"{where}/bare/{view}", headers, body % b"1", framing)
            first = send(wire, f"{where}/{view}", keyed, body % b"1", framing)
            assert (first.status, first.body) == (expected.status, expected.body), what
            other = send(wire, f"{where}/{view}", keyed, body % b"1000000", framing)
            assert other.problem == (422, "key-reused"), what
            retry = send(wire, f"{where}/{view}", keyed, body % b"1", framing)
            assert retry.replayed, what
            assert retry.body == first.body, what


class TestTaken:
    """A middleware has read from the body and not put it back."""

    @pytest.mark.parametrize("where", ["taken", "taken/decorated"])
    @pytest.mark.parametrize("size", ["all", "4"])
    def test_f8_refused(self, wire: Wire, where: str, size: str) -> None:
        """F8: nothing is claimed, the log says why, and without a key the rest is served."""
        for framing in FRAMINGS:
            if wire.kind == "dev" and framing == "length":
                # It waits for what was read before: five seconds with a key, forever without.
                continue
            headers = [("X-Take", size)]
            for content_type, body in BODIES.items():
                what = (framing, content_type)
                for amount in (b"1", b"1000000"):
                    keyed = [*headers, content_type, wire.key]
                    refused = send(wire, f"{where}/stream", keyed, body % amount, framing)
                    assert refused.problem == (500, "body-unavailable"), what
                keyless = [
                    send(wire, f"{where}/{view}", [*headers, content_type], body % b"1", framing)
                    for view in ("stream", "bare/stream")
                ]
                assert keyless[0].status == keyless[1].status == 200, what
                assert keyless[0].body == keyless[1].body, what
        assert wire.records == 0
        assert "environ['wsgi.input'] = io.BytesIO(data)" in wire.server.log()
