"""Round trips: any response replays equal, and any request has its retries and no others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from flask import Response
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from flask_idempotent.http.responses import should_store
from flask_idempotent.record_format import decode, encode
from flask_idempotent.settings import resolve
from flask_idempotent.web.state import EXTENSION_KEY
from tests.support.clients import WayIn, problem

#: Examples for each of the three ways to protect a view.
EACH_WAY = 50
#: What R1 says is not kept, or is made again.
NOT_KEPT = frozenset(
    ["age", "alt-svc", "connection", "content-length", "date", "keep-alive", "proxy-authenticate",
     "server", "server-timing", "set-cookie", "te", "traceparent", "trailer", "transfer-encoding",
     "upgrade", "www-authenticate", "x-request-id", "access-control-allow-origin",
     "ratelimit-limit", "x-ratelimit-remaining"]
)  # fmt: skip
KEPT = ("Link", "Vary", "ETag", "Location", "Content-Language", "X-Total", "x-total", "Allow")


@dataclass(frozen=True)
class Answer:
    """What a view answers.

    :param how: ``"whole"``, ``"list"`` or ``"stream"``.
    """

    status: int
    headers: list[tuple[str, str]]
    content_type: str | None
    chunks: list[bytes]
    how: str

    def response(self) -> Response:
        body: bytes | Iterable[bytes] = {
            "whole": b"".join(self.chunks),
            "list": self.chunks,
            "stream": iter(self.chunks),
        }[self.how]
        response = Response(body, self.status, self.headers, content_type=self.content_type)
        if self.content_type is None:
            response.headers.remove("Content-Type")
        return response

    @property
    def body(self) -> bytes:
        return b"" if self.status == 204 else b"".join(self.chunks)


LATIN_1 = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=8
)
STORABLE = st.integers(200, 499).filter(
    lambda status: should_store(Response(status=status), resolve({}))
)
NAMES = st.sampled_from([*KEPT, *(name.title() for name in NOT_KEPT - {"content-length"})])
ANSWERS = st.builds(
    Answer,
    status=STORABLE | st.sampled_from([200, 201, 204, 205, 303, 402]),
    headers=st.lists(
        st.tuples(NAMES, LATIN_1) | st.tuples(st.just("Connection"), st.sampled_from(KEPT)),
        max_size=8,
    ),
    content_type=st.sampled_from([None, "text/plain; charset=latin-1", "application/json"]),
    chunks=st.lists(st.binary(max_size=20), max_size=5),
    how=st.sampled_from(["whole", "list", "stream"]),
)


def kept(headers: Headers) -> list[tuple[str, str]]:
    """The headers of a first response that its replays repeat (R1)."""
    named = {
        name.strip().lower() for value in headers.getlist("Connection") for name in value.split(",")
    }
    return [pair for pair in headers if pair[0].lower() not in NOT_KEPT | named]


def keys() -> Iterator[str]:
    """Keys, each new."""
    return (f"key-{number}" for number in count())


class TestResponses:
    def test_c2_r1_r5_replay_is_equal(self, way: WayIn) -> None:
        """C2, R1, R5: whatever a view answers, its replay has its status, headers and bytes."""
        app, new, answers = way.app(), keys(), []
        app.add_url_rule("/", "view", way(lambda: answers.pop().response()), methods=["POST"])
        client = app.test_client(use_cookies=False)

        @settings(max_examples=EACH_WAY)
        @given(ANSWERS)
        def check(answer: Answer) -> None:
            answers.append(answer)
            key = {"Idempotency-Key": next(new)}
            first, replay = (client.post("/", headers=key, buffered=True) for _ in range(2))
            assert (first.status_code, first.data) == (answer.status, answer.body)
            assert "Idempotent-Replayed" not in first.headers
            assert (replay.status, replay.data) == (first.status, first.data)
            assert replay.headers.pop("Idempotent-Replayed") == "true"
            length = None if answer.status == 204 else str(len(answer.body))
            assert replay.headers.pop("Content-Length", None) == length
            assert list(replay.headers) == kept(first.headers)

        check()


# What Werkzeug takes from a view, whether or not it can be sent.
ANY_TEXT = st.text(max_size=6) | st.text(
    st.sampled_from("a1-:;\t\0\x1b\x7f\xfc鍵\ud800"), max_size=6
)
NO_NEWLINES = ANY_TEXT.filter(lambda text: not re.search(r"[\r\n]", text))
ODD_STATUSES = (
    st.integers(-10, 1100)
    | st.builds("{} {}".format, st.integers(100, 499), ANY_TEXT)
    | ANY_TEXT.filter(str.strip)
)
URIS = st.builds(
    "".join, st.lists(st.sampled_from(["http:", "//", "a.b", ":", "9", "[", "/", "ü"]))
)
ODD_HEADERS = st.lists(
    st.tuples(st.sampled_from(KEPT) | ANY_TEXT, NO_NEWLINES)
    | st.tuples(st.sampled_from(["Location", "content-location"]), URIS),
    max_size=4,
)


class TestOddResponses:
    def test_r12_read_back_or_not_kept(self, way: WayIn) -> None:
        """R12: whatever Werkzeug takes from a view, what is kept of it can be read again.

        A retry gets the answer of the first request, or 409 where no server may send that answer;
        never a 500 or a 503, and never a second run.
        """
        app, new = way.app(), keys()
        answers: list[Response] = []
        app.add_url_rule("/", "view", way(answers.pop), methods=["POST"])
        client = app.test_client(use_cookies=False)

        @settings(max_examples=EACH_WAY)
        @given(ODD_STATUSES, ODD_HEADERS)
        def check(status: int | str, headers: list[tuple[str, str]]) -> None:
            answer = Response(b"body", status, headers)
            assume(should_store(answer, resolve({})))
            answers.append(answer)
            key = {"Idempotency-Key": next(new)}
            with suppress(ValueError):  # Werkzeug's own, of a Location that is none.
                client.post("/", headers=key, buffered=True)
            store = app.extensions[EXTENSION_KEY].engine.store
            (name,) = store.scan("IDEMPOTENT_")
            record = store.read(name)
            store.delete([name])
            assert decode(encode(record)) == record
            store.complete(name, record, ttl_ms=60_000)
            retry = client.post("/", headers=key, buffered=True)
            if "Idempotent-Replayed" in retry.headers:
                body = b"" if answer.status_code == 204 else b"body"
                assert (retry.status_code, retry.data) == (answer.status_code, body)
                for text in (retry.status, *(text for pair in retry.headers for text in pair)):
                    assert re.fullmatch(r"[\t -~\x80-\xff]*", text)
            else:
                assert problem(retry) == (409, "response-not-kept")
            store.delete([name])

        check()
