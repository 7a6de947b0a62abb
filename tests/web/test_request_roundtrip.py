"""Any request has its retries, and no others."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import count
from typing import Any
from urllib.parse import urlencode

from flask import Flask, request
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.test import TestResponse, stream_encode_multipart

from tests.support.clients import WayIn, problem
from tests.support.request_bodies import URLENCODED

KEY_FIELD = "__idempotent_key"
#: Examples for each of the three ways to protect a view.
EACH_WAY = 50


def keys() -> Iterator[str]:
    """Keys, each new."""
    return (f"key-{number}" for number in count())


MULTIPART = "multipart/form-data"
IGNORED = {KEY_FIELD, "csrf_token", "nonce"}
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Ask:
    """A request; the fields below the line make no difference (F1, F2)."""

    method: str
    path: str
    query: Pairs
    media_type: str
    body: bytes
    fields: Pairs
    files: tuple[tuple[str, str, str, bytes], ...]
    # ------------------------------------------------------------------
    parameter: str
    boundary: str
    places: frozenset[str]
    agent: str
    token: str

    @property
    def _is_form(self) -> bool:
        return self.media_type.lower() in (URLENCODED, MULTIPART)

    def meaning(self) -> tuple[object, ...]:
        """What is left when that is left out which F1 and F2 leave out."""
        content: object = self.body
        if self._is_form:
            content = [
                (name, value)
                for name, value in self._parts(None)
                if name not in IGNORED or not isinstance(value, str)
            ]
        return self.method, self.path, self.query, self.media_type.lower(), content

    def send(self, app: Flask, key: str) -> TestResponse:
        possible = {"header", "x-header", "query"} | ({"form"} if self._is_form else set())
        places = self.places & possible or {"header"}
        headers = {"User-Agent": self.agent, "X-Csrf": self.token}
        if "header" in places:
            headers["Idempotency-Key"] = f'"{key}"'
        if "x-header" in places:
            headers["X-Idempotent-Key"] = key
        query = ((KEY_FIELD, key), *self.query) if "query" in places else self.query
        body, content_type = self._content(key if "form" in places else None)
        return app.test_client().open(
            self.path,
            method=self.method,
            query_string=urlencode(query),
            headers=headers,
            data=body,
            content_type=content_type,
        )

    def _content(self, key: str | None) -> tuple[bytes, str]:
        if not self._is_form:
            return self.body, self.media_type + self.parameter
        parts = self._parts(key)
        if self.media_type != MULTIPART:
            return urlencode(parts).encode(), self.media_type + self.parameter
        pairs = [(name, value if isinstance(value, str) else file(*value)) for name, value in parts]
        stream, _, _ = stream_encode_multipart(MultiDict(pairs), boundary=self.boundary)
        with stream:
            return stream.read(), f"{MULTIPART}; boundary={self.boundary}"

    def _parts(self, key: str | None) -> list[tuple[str, Any]]:
        """Names and values of a form, in the order in which they are sent."""
        own = [] if key is None else [(KEY_FIELD, key)]
        parts: list[tuple[str, Any]] = [*self.fields, ("csrf_token", self.token), *own]
        if self.media_type != MULTIPART:
            return parts
        parts += [(name, rest) for name, *rest in self.files]
        return list(MultiDict(parts).items(multi=True))


def file(filename: str, kind: str, content: bytes) -> FileStorage:
    return FileStorage(io.BytesIO(content), filename, content_type=kind)


FIELD_NAMES = st.sampled_from(["a", "b", "nonce"])
FIELDS = st.lists(st.tuples(FIELD_NAMES, st.text("a=&é1", max_size=2)), max_size=3).map(tuple)
FILES = st.lists(
    st.tuples(
        FIELD_NAMES,
        st.sampled_from(["f", "g"]),
        st.sampled_from(["text/plain", "image/png"]),
        st.binary(max_size=3),
    ),
    max_size=2,
).map(tuple)
ASKS = st.builds(
    Ask,
    method=st.sampled_from(["POST", "PUT", "DELETE"]),
    path=st.sampled_from(["/a", "/a/b", "/ab", "/A"]),
    query=st.lists(st.tuples(st.sampled_from("ab"), st.text("a&1", max_size=2)), max_size=2).map(
        tuple
    ),
    media_type=st.sampled_from(
        ["application/json", "Application/JSON", "text/plain", URLENCODED, MULTIPART, MULTIPART]
    ),
    body=st.sampled_from([b"", b"{}", b"a=1", b"\x00\xff"]),
    fields=FIELDS,
    files=FILES,
    parameter=st.sampled_from(["", "; charset=utf-8", ";v=1"]),
    boundary=st.sampled_from(["b0", "b1", "----WebKitFormBoundary7MA4YWxk"]),
    places=st.frozensets(st.sampled_from(["header", "x-header", "query", "form"])),
    agent=st.sampled_from(["one", "other"]),
    token=st.sampled_from(["t0", "t1"]),
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Ask, Ask]:
    """Two requests that differ in a few things at most."""
    one, donor = draw(ASKS), draw(ASKS)
    names = draw(st.sets(st.sampled_from([field.name for field in fields(Ask)]), max_size=3))
    return one, replace(one, **{name: getattr(donor, name) for name in names})


class TestRequests:
    def test_f1_f2_f4_other_request_is_refused(self, way: WayIn) -> None:
        """F1, F2, F4: a request gets 422 if, and only if, it is not a retry of the first."""
        app, new, runs = way.app(ignore_fields=["nonce"]), keys(), count(1)

        @app.route("/<path:name>", methods=["POST", "PUT", "DELETE"])
        @way
        def view(name: str) -> dict[str, object]:
            files = {name: file.read().hex() for name, file in request.files.items()}
            return {"run": next(runs), "name": name, "form": request.form, "files": files}

        @settings(max_examples=EACH_WAY)
        @given(pairs())
        def check(pair: tuple[Ask, Ask]) -> None:
            one, other = pair
            key = next(new)
            first, second = one.send(app, key), other.send(app, key)
            assert first.status_code == 200
            if one.meaning() == other.meaning():
                assert second.headers["Idempotent-Replayed"] == "true"
                assert second.data == first.data
            else:
                assert problem(second) == (422, "key-reused")
            assert one.send(app, key).data == first.data

        check()
