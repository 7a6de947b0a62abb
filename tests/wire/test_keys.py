"""Keys on the wire: what servers make of a header before the library sees it."""

from __future__ import annotations

import pytest

from tests.wire.client import URLENCODED
from tests.wire.conftest import Wire

NAME = "Idempotency-Key"
#: Every character that may stand in a bare key (K3).
BARE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '",;\\')


@pytest.mark.parametrize(
    "name", ["idempotency-key", "IDEMPOTENCY-KEY", "iDeMpOtEnCy-KeY", "x-IDEMPOTENT-key"]
)
def test_k1_any_case(wire: Wire, name: str) -> None:
    """A header's name matches in any case, and both names carry the same key."""
    key = wire.key[1]
    assert wire.ask("echo", [(name, key)]).json["run"] == 1
    again = wire.ask("echo", [(NAME, key)])
    assert again.json["run"] == 1
    assert again.replayed


def test_k1_underscore(wire: Wire) -> None:
    """A name with an underscore is another header, which servers drop: the request has no key."""
    assert wire.ask("echo", [("Idempotency_Key", "k")]).json["run"] == 1
    assert wire.records == 0


@pytest.mark.parametrize("other", ["header", "query", "form"])
@pytest.mark.parametrize("agree", [True, False], ids=["agree", "disagree"])
def test_k1_two_sources(wire: Wire, other: str, agree: bool) -> None:
    """Two sources with one key are one key; with two keys they get 400."""
    key = wire.key[1]
    second = key if agree else "another"
    headers = [wire.key, URLENCODED]
    query, body = "", b""
    match other:
        case "header":
            headers.append(("X-Idempotent-Key", second))
        case "query":
            query = f"?__idempotent_key={second}"
        case "form":
            body = f"__idempotent_key={second}".encode()
    answer = wire.ask("echo", headers, body, query=query)
    if agree:
        assert answer.json["run"] == 1
        assert wire.ask("echo", headers, body, query=query).replayed
    else:
        assert answer.problem == (400, "key-invalid")
        assert wire.nothing_happened()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('"{}"', id="K2-string"),
        pytest.param('"{}";a=1;b', id="K2-parameters"),
        pytest.param("  {}", id="K6-spaces-before"),
        pytest.param("{}   ", id="K6-spaces-behind"),
        pytest.param("\t{}", id="K6-tab-before"),
        pytest.param("{}\t", id="K6-tab-behind"),
        pytest.param(" \t {} \t \t", id="K6-both-around"),
        pytest.param(' \t"{}"\t ', id="K6-around-a-string"),
    ],
)
def test_one_key(wire: Wire, value: str) -> None:
    """A key is the same bare, as a String, and with spaces and tabs around it."""
    wire.ask("echo", [wire.key])
    answer = wire.ask("echo", [(NAME, value.format(wire.key[1]))])
    assert answer.json["run"] == 1
    assert answer.replayed


@pytest.mark.parametrize("source", ["header", "query", "form"])
def test_k3_k7_every_character(wire: Wire, source: str) -> None:
    """Each character of a bare key arrives as it is from each source."""
    encoded = "".join(f"%{ord(character):02X}" for character in BARE)
    field = f"__idempotent_key={encoded}"
    match source:
        case "header":
            answer = wire.ask("echo", [(NAME, BARE)])
        case "query":
            answer = wire.ask("echo", query=f"?{field}")
        case "form":
            answer = wire.ask("echo", [URLENCODED], field.encode())
    assert answer.json["run"] == 1
    # The problem names the key as the library read it.
    other = wire.ask("echo", [(NAME, f'"{BARE}"')], b"other")
    assert other.problem == (422, "key-reused")
    assert other.json["idempotency_key"] == BARE


@pytest.mark.parametrize("form", ["{}", '"{}"'], ids=["bare", "string"])
def test_k5_255_characters(wire: Wire, form: str) -> None:
    """A key of 255 characters is served, one of 256 gets 400."""
    fits = [(NAME, form.format("k" * 255))]
    assert wire.ask("echo", fits).status == 200
    assert wire.ask("echo", fits).replayed
    answer = wire.ask("echo", [(NAME, form.format("k" * 256))])
    assert answer.problem == (400, "key-invalid")
    assert wire.runs == 1


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([(NAME, "a"), (NAME, "a")], id="same"),
        pytest.param([(NAME, "a"), (NAME, "b")], id="different"),
        pytest.param([(NAME, '"a"'), (NAME, '"a"')], id="same-strings"),
        pytest.param([(NAME, '"a"'), (NAME, '"b"')], id="different-strings"),
        pytest.param([(NAME, "a"), (NAME.upper(), "a")], id="same-in-another-case"),
        pytest.param([(NAME, ""), (NAME, "a")], id="empty-and-another"),
        pytest.param([(NAME, "a"), (NAME, "")], id="one-and-an-empty"),
        pytest.param([(NAME, ""), (NAME, "")], id="two-empty"),
    ],
)
def test_k5_header_sent_twice(wire: Wire, lines: list[tuple[str, str]]) -> None:
    """A header that is sent twice gets 400, also when both lines are the same."""
    assert wire.ask("echo", lines).problem == (400, "key-invalid")
    assert wire.nothing_happened()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="K5-empty"),
        pytest.param(" ", id="K5-a-space"),
        pytest.param(" \t ", id="K5-only-spaces"),
        pytest.param('""', id="K5-empty-string"),
        pytest.param('"  "', id="K5-string-of-spaces"),
        pytest.param("a b", id="K3-space-inside"),
        pytest.param("a\tb", id="K5-tab-inside"),
        pytest.param('"a\tb"', id="K5-tab-in-a-string"),
        pytest.param("a,b", id="K5-comma"),
        pytest.param('"a", "b"', id="K5-two-strings"),
        pytest.param('"a" b', id="K2-something-behind"),
        pytest.param('"a', id="K2-no-end"),
        pytest.param('a"', id="K3-quote"),
        pytest.param('"a\\x"', id="K2-escape"),
        pytest.param("José", id="K5-latin-1"),
        pytest.param('"José"', id="K5-latin-1-in-a-string"),
        pytest.param("ключ".encode(), id="K5-utf-8"),
        pytest.param('"ключ"'.encode(), id="K5-utf-8-in-a-string"),
        pytest.param(b"\xff\xfe", id="K5-no-text"),
        pytest.param(b"a\xa0", id="K5-no-break-space-behind"),
        pytest.param(b"\x85a", id="K5-next-line-before"),
    ],
)
def test_invalid(wire: Wire, value: str | bytes) -> None:
    """A value that is not a key gets 400: no view runs and nothing is claimed."""
    assert wire.ask("echo", [(NAME, value)]).problem == (400, "key-invalid")
    assert wire.nothing_happened()


@pytest.mark.parametrize("code", [0x00, 0x01, 0x0B, 0x0C, 0x0D, 0x1C, 0x1F, 0x7F])
@pytest.mark.parametrize("form", [b"a%cb", b"a%c", b"%ca", b'"a%cb"'])
def test_k5_controls(wire: Wire, code: int, form: bytes) -> None:
    """A control gets 400, from the server where it looks first, and nothing is claimed."""
    if code == 0x0D and wire.kind == "dev":
        pytest.skip("the development server ends a line at a bare CR, and the library sees no CR")
    assert wire.ask("echo", [(NAME, form % code)]).status == 400
    assert wire.nothing_happened()


@pytest.mark.parametrize("fold", [b"\r\n ", b"\r\n\t", b" \r\n  "])
def test_k5_obs_fold(wire: Wire, fold: bytes) -> None:
    """A bare key that is folded over two lines gets 400 (M 5.2)."""
    assert wire.ask("echo", [(NAME, b"a" + fold + b"b")]).status == 400
    assert wire.nothing_happened()


def test_k5_obs_fold_of_a_string(wire: Wire) -> None:
    """A folded String gets 400, or is the String with a space that M 5.2 makes of it."""
    answer = wire.ask("echo", [(NAME, b'"a\r\n b"')])
    if answer.status == 400:
        assert wire.nothing_happened()
    else:
        assert answer.json["run"] == 1
        assert wire.ask("echo", [(NAME, '"a b"')]).replayed


@pytest.mark.parametrize(
    "value", ["", "%20", "a%2Cb", "a%22", "%C3%BC", "a%00", "a%0D%0AX:b", "k" * 256]
)
@pytest.mark.parametrize("source", ["query", "form"])
def test_k7_invalid(wire: Wire, source: str, value: str) -> None:
    """The form's field and the query's argument follow the same rules."""
    field = f"__idempotent_key={value}"
    if source == "query":
        answer = wire.ask("echo", query=f"?{field}")
    else:
        answer = wire.ask("echo", [URLENCODED], field.encode())
    assert answer.problem == (400, "key-invalid")
    assert wire.nothing_happened()


def test_w3_required(wire: Wire) -> None:
    """A view that requires a key answers 400 without one, and nothing is stored."""
    assert wire.ask("required").problem == (400, "key-missing")
    assert wire.nothing_happened()
    assert wire.ask("required", [wire.key]).json["run"] == 1
