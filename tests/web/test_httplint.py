"""What comes off the wire, before a linter of HTTP and a schema of problem documents."""

from __future__ import annotations

import html
import json
import socket
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from httplint import HttpRequestLinter, HttpResponseLinter
from httplint.note import Note, levels
from jsonschema import Draft202012Validator

from flask_idempotent.record_format import decode, encode
from flask_idempotent.records import CompletedRecord, RunningRecord
from tests.support.redis_servers import Server
from tests.support.web_servers import serving

SCHEMA = json.loads((Path(__file__).parent / "rfc9457.json").read_text())
HTML, JSON = "text/html", "application/json"

Headers = list[tuple[bytes, bytes]]

#: The linter's warnings that may come, each with its reason; its level BAD may not.
ACCEPTED = {
    "STATUS_BAD_REQUEST": "it is said of every 400, and these are meant to be one",
    "FRESHNESS_HEURISTIC": "older linters overlook that the request is a POST",
}


class Exchange:
    """One request and its answer, as bytes.

    :param port: where the server listens.
    """

    def __init__(self, port: int, path: str, headers: dict[str, str], body: bytes) -> None:
        self._path = path
        self._request: Headers = [
            (name.encode(), value.encode()) for name, value in headers.items()
        ]
        head = [b"POST %b HTTP/1.1" % path.encode()]
        head += [b"%b: %b" % pair for pair in self._request]
        self._socket = socket.create_connection(("127.0.0.1", port), 20)
        self._socket.sendall(b"\r\n".join([*head, b"", body]))

    def go_away(self) -> Exchange:
        """Send no more."""
        self._socket.shutdown(socket.SHUT_WR)
        return self

    def receive(self) -> Exchange:
        """Read the answer to its end."""
        with self._socket, self._socket.makefile("rb") as stream:
            raw = stream.read()
        head, _, body = raw.partition(b"\r\n\r\n")
        line, *fields = head.split(b"\r\n")
        self.version, self.code, self.phrase = line.split(b" ", 2)
        self.headers: Headers = []
        for field in fields:
            name, _, value = field.partition(b":")
            self.headers.append((name, value.strip(b" \t")))
        self.body = dechunked(body) if (b"transfer-encoding", b"chunked") in self._lower() else body
        return self

    def _lower(self) -> Headers:
        return [(name.lower(), value.lower()) for name, value in self.headers]

    def header(self, name: bytes) -> bytes | None:
        return dict(self._lower()).get(name)

    @property
    def status(self) -> int:
        return int(self.code)

    def notes(self) -> list[Note]:
        """What the linter says, the notes below notes too."""
        request = HttpRequestLinter()
        request.process_request_topline(b"POST", self._path.encode(), b"HTTP/1.1")
        request.process_headers(self._request)
        linter = HttpResponseLinter()
        linter.request = request
        linter.process_response_topline(self.version.split(b"/")[1], self.code, self.phrase)
        linter.process_headers(self.headers)
        linter.feed_content(self.body)
        linter.finish_content(True)
        return list(flat(linter.notes))


def flat(notes: Any) -> Iterator[Note]:
    for note in notes:
        yield note
        yield from flat(note.subnotes)


def dechunked(body: bytes) -> bytes:
    """Join chunks (RFC 9112, 7.1)."""
    content = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        content += body[:length]
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]
    return content


class Answers:
    """The application with a view for each kind of answer, behind a web server."""

    def __init__(self, port: int, valkey: Server) -> None:
        self._port = port
        self._redis = valkey.client

    def start(self, path: str, *, key: str | None = '"one"', accept: str = JSON,
              body: bytes = b"{}", length: int | None = None) -> Exchange:  # fmt: skip
        headers = {
            "Host": f"127.0.0.1:{self._port}",
            "User-Agent": "tests",
            "Accept": accept,
            "Connection": "close",
            "Content-Type": "application/json",
            "Content-Length": str(len(body) if length is None else length),
        }
        if key is not None:
            headers["Idempotency-Key"] = key
        return Exchange(self._port, path, headers, body)

    def send(self, path: str, **options: Any) -> Exchange:
        return self.start(path, **options).receive()

    def forget(self) -> None:
        """Empty the store."""
        self._redis.flushall()

    def in_progress(self, **options: Any) -> Exchange:
        first = self.start("/waiting")
        assert self._redis.blpop(["reached"], 10)
        refused = self.send("/waiting", **options)
        self._redis.rpush("go on", 1)
        assert first.receive().status == 200
        return refused

    def incomplete(self, **options: Any) -> Exchange:
        if self.send("/empty").header(b"server") == b"waitress":
            pytest.skip("waitress drops a request whose body broke off")
        return self.start("/created", length=100, **options).go_away().receive()

    def crashed(self, **options: Any) -> Exchange:
        self.send("/held")
        name, completed = self._record()
        lapsed = RunningRecord(completed.owner, completed.fingerprint, grace_ms=1 << 40)
        self._redis.set(name, encode(lapsed), keepttl=True)
        return self.send("/held", **options)

    def unreadable(self, **options: Any) -> Exchange:
        self.send("/created")
        name, _ = self._record()
        self._redis.set(name, b"damaged", keepttl=True)
        return self.send("/created", **options)

    def again(self, path: str, second: dict[str, Any], **options: Any) -> Exchange:
        assert self.send(path).status < 400
        return self.send(path, **second, **options)

    def _record(self) -> tuple[bytes, CompletedRecord]:
        [name] = self._redis.keys("IDEMPOTENT_*")
        record = decode(self._redis.get(name))
        assert isinstance(record, CompletedRecord)
        return name, record


@pytest.fixture(scope="module", params=["gunicorn", "waitress", "dev"])
def port(
    request: pytest.FixtureRequest, valkey: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """Each server in turn."""
    folder = tmp_path_factory.mktemp("answers")
    app = "tests.support.applications:answers"
    with serving(request.param, app, folder, REDIS_URL=valkey.url) as port:
        yield port


@pytest.fixture
def answers(port: int, clean_valkey: Server) -> Answers:
    """The application, and nothing in its store."""
    return Answers(port, clean_valkey)


VIEWS = ["created", "page", "streamed", "empty", "elsewhere", "refused"]

Cause = Callable[..., Exchange]
PROBLEMS: dict[str, tuple[int, Cause]] = {
    "key-missing": (400, lambda app, **o: app.send("/required", key=None, **o)),
    "key-invalid": (400, lambda app, **o: app.send("/created", key='"<b>', **o)),
    "body-incomplete": (400, Answers.incomplete),
    "in-progress": (409, Answers.in_progress),
    "response-not-kept": (409, lambda app, **o: app.again("/not_kept", {}, **o)),
    "outcome-unknown": (409, Answers.crashed),
    "key-reused": (422, lambda app, **o: app.again("/created", {"body": b"[]"}, **o)),
    "store-unavailable": (503, lambda app, **o: app.send("/adrift/", **o)),
    "record-unreadable": (503, Answers.unreadable),
}


@pytest.fixture(params=PROBLEMS)
def problem(request: pytest.FixtureRequest, answers: Answers) -> Callable[[str], Exchange]:
    """Brings each problem about in turn, for a client that accepts one media type."""
    status, cause = PROBLEMS[request.param]

    def bring_about(accept: str) -> Exchange:
        answers.forget()
        exchange = cause(answers, accept=accept)
        assert exchange.status == status
        return exchange

    return bring_about


def assert_clean(exchange: Exchange) -> None:
    notes = exchange.notes()
    assert [str(note) for note in notes if note.level == levels.BAD] == []
    warned = {type(note).__name__: str(note) for note in notes if note.level == levels.WARN}
    assert {name: text for name, text in warned.items() if name not in ACCEPTED} == {}


class TestLint:
    @pytest.mark.parametrize("view", VIEWS)
    def test_r3_r5_first_and_replay(self, answers: Answers, view: str) -> None:
        """R3, R5: a first response and its replay are good HTTP."""
        first, replay = answers.send(f"/{view}"), answers.send(f"/{view}")
        assert first.header(b"idempotent-replayed") is None
        assert replay.header(b"idempotent-replayed") == b"true"
        assert (replay.status, replay.body) == (first.status, first.body)
        assert_clean(first)
        assert_clean(replay)

    @pytest.mark.parametrize("accept", [JSON, HTML])
    def test_e1_e2_problems(self, problem: Callable[[str], Exchange], accept: str) -> None:
        """E1, E2: each problem is good HTTP, as JSON and as HTML."""
        assert_clean(problem(accept))

    def test_linter_sees_what_is_wrong(self, answers: Answers) -> None:
        """The linter objects to a wrong length and to a bad date."""
        exchange = answers.send("/created")
        exchange.body += b"more"
        exchange.headers.append((b"Last-Modified", b"soon"))
        found = {type(note).__name__ for note in exchange.notes() if note.level == levels.BAD}
        assert {"CL_INCORRECT", "BAD_DATE_SYNTAX"} <= found


def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), "a member stands there twice"
    return dict(pairs)


class TestDocument:
    schema = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)

    def test_e1_schema(self, problem: Callable[[str], Exchange]) -> None:
        """E1: each problem document satisfies the schema of RFC 9457, appendix A."""
        exchange = problem(JSON)
        assert exchange.header(b"content-type") == b"application/problem+json"
        document = json.loads(exchange.body, object_pairs_hook=members)
        self.schema.validate(document)
        assert document.keys() == {*SCHEMA["properties"], "retryable", "idempotency_key"}
        assert document["status"] == exchange.status

    @pytest.mark.parametrize(
        "document", [[], {"status": "409"}, {"status": 99}, {"type": "no uri"}, {"title": None}]
    )
    def test_schema_sees_what_is_wrong(self, document: object) -> None:
        """The schema refuses what is no problem document, its formats included."""
        assert not self.schema.is_valid(document)


class Page(HTMLParser):
    """An HTML page, read without forgiveness: every element is closed, in its place.

    :param text: the page.
    """

    _VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self._open: list[str] = []
        self.elements: list[str] = []
        self.text = ""
        self.doctype = ""
        self.feed(text)
        assert self.rawdata == "", "the page ends within a tag"
        assert self._open == [], "elements are not closed"

    def handle_decl(self, decl: str) -> None:
        assert not self.elements, "the document type comes first"
        self.doctype = decl

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        if tag not in self._VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> is out of place"

    def handle_data(self, data: str) -> None:
        assert "<" not in data, "a bare <"
        assert "&" not in data, "a bare &"
        self.text += data

    def handle_entityref(self, name: str) -> None:
        self.text += html.unescape(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.text += html.unescape(f"&#{name};")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"not HTML: {data}")

    handle_pi = unknown_decl


class TestPage:
    def test_e1_e5_page(self, problem: Callable[[str], Exchange]) -> None:
        """E1: each problem is a sound HTML page that says what the document says."""
        exchange, document = problem(HTML), json.loads(problem(JSON).body)
        assert exchange.header(b"content-type") == b"text/html; charset=utf-8"
        page = Page(exchange.body.decode())
        assert page.doctype == "doctype html"
        assert page.elements[0] == "html"
        assert {"title", "h1"} <= set(page.elements)
        for said in (document["title"], document["detail"], document["idempotency_key"] or ""):
            assert said in page.text

    def test_e5_key_is_escaped(self, answers: Answers) -> None:
        """E5: a key that looks like HTML stays text."""
        key = "</p><script>&lt;'"
        assert answers.send("/not_kept", key=f'"{key}"').status == 200
        page = Page(answers.send("/not_kept", key=f'"{key}"', accept=HTML).body.decode())
        assert key in page.text
        assert "script" not in page.elements

    @pytest.mark.parametrize(
        "text", ["<p>", "</p>", "<p><b></p></b>", "<p", "<p>a < b</p>", "<p a=1 a=2></p>", "&"]
    )
    def test_reader_sees_what_is_wrong(self, text: str) -> None:
        """The reader of pages refuses what is open, out of place or not escaped."""
        with pytest.raises(AssertionError):
            Page(text)
