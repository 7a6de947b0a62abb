"""What comes off the wire, before a linter of HTTP and a schema of problem documents."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from httplint.note import levels
from jsonschema import Draft202012Validator

from flask_idempotent.record_format import decode, encode
from flask_idempotent.records import CompletedRecord, RunningRecord
from tests.support.exchanges import ACCEPTED, Exchange
from tests.support.redis_servers import Server
from tests.support.web_servers import serving

HTML, JSON = "text/html", "application/json"
SCHEMA = json.loads((Path(__file__).parent / "rfc9457.json").read_text())


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
        """The schema refuses what is not a problem document, its formats included."""
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
