"""Requests for the tests of fingerprints, and what the fingerprint covers of each."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_idempotent.http.bodies import Body
from flask_idempotent.http.fingerprints import fingerprint
from flask_idempotent.settings import resolve

URLENCODED = "application/x-www-form-urlencoded"
KEY = "__idempotent_key"
IGNORED = {KEY, "csrf_token", "nonce"}

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class File:
    """One file of a multipart form."""

    name: str
    filename: str = "f.txt"
    content_type: str = "text/plain"
    content: bytes = b""


@dataclass(frozen=True)
class Spec:
    """A request, and which of its parts the fingerprint covers (F1 and F2)."""

    method: str = "POST"
    root: str = ""
    path: str = "/"
    query: Pairs = ()
    kind: str = "application/json"
    parameter: str = ""
    body: bytes = b""
    fields: Pairs = ()
    files: tuple[File, ...] = ()
    boundary: str = "b0"
    host: str = "a.example"
    header: str | None = None

    def identity(self) -> tuple[object, ...]:
        """What is left without what F1 and F2 leave out."""
        content: object = self.body
        if self.is_form:
            files = self.files if self.kind.lower().startswith("multipart") else ()
            content = [pair for pair in self.fields if pair[0] not in IGNORED], files
        query = tuple(pair for pair in self.query if pair[0] != KEY)
        return self.method, self.root, self.path, query, self.kind.lower(), self.is_form, content

    @property
    def is_form(self) -> bool:
        return self.kind.lower() in (URLENCODED, "multipart/form-data")

    def request(self, **overrides: Any) -> Request:
        data, content_type = self._content()
        environ = EnvironBuilder(method=self.method).get_environ()
        environ.update(
            {
                "SCRIPT_NAME": self.root,
                "PATH_INFO": self.path.encode().decode("latin-1"),
                "QUERY_STRING": urlencode(self.query),
                "CONTENT_TYPE": content_type,
                "CONTENT_LENGTH": str(len(data)),
                "HTTP_HOST": self.host,
                "wsgi.input": io.BytesIO(data),
            }
        )
        if self.header is not None:
            environ["HTTP_IDEMPOTENCY_KEY"] = self.header
        return Request({**environ, **overrides})

    def _content(self) -> tuple[bytes, str]:
        if self.kind.lower() == URLENCODED:
            return urlencode(self.fields).encode(), self.kind + self.parameter
        if self.kind.lower() == "multipart/form-data":
            return self._multipart(), f"{self.kind}; boundary={self.boundary}"
        return self.body, self.kind + self.parameter

    def _multipart(self) -> bytes:
        parts = [(f'name="{name}"\r\n', value.encode()) for name, value in self.fields]
        for file in self.files:
            head = f'name="{file.name}"; filename="{file.filename}"\r\n'
            parts.append((f"{head}Content-Type: {file.content_type}\r\n", file.content))
        start = f"--{self.boundary}\r\nContent-Disposition: form-data; ".encode()
        data = b"".join(start + head.encode() + b"\r\n" + body + b"\r\n" for head, body in parts)
        return data + f"--{self.boundary}--\r\n".encode()


SETTINGS = resolve({}, {"ignore_fields": ["nonce"]})


def print_of(spec: Spec, *, host: bool = False, **overrides: Any) -> bytes:
    return print_of_request(spec.request(), host=host, **overrides)


def print_of_request(request: Request, *, host: bool = False, **overrides: Any) -> bytes:
    body = Body(request, request.max_content_length)
    settings = resolve({}, overrides) if overrides else SETTINGS
    return fingerprint(request, body, settings, host=host)


NAMES = st.sampled_from(["a", "b", "ab", KEY, "csrf_token", "nonce"])
VALUES = st.text("ab=&1:", max_size=3)
PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=4).map(tuple)
FILES = st.lists(
    st.builds(
        File,
        NAMES,
        st.sampled_from(["f", "g"]),
        st.sampled_from(["text/plain", "text/html"]),
        st.binary(max_size=3).filter(lambda data: b"\r" not in data),
    ),
    max_size=3,
).map(tuple)
SPECS = st.builds(
    Spec,
    method=st.sampled_from(["POST", "PUT"]),
    root=st.sampled_from(["", "/v1"]),
    path=st.sampled_from(["/", "/a", "/ab", "/v1/a"]),
    query=PAIRS,
    kind=st.sampled_from(
        ["", "application/json", "Application/JSON", "text/plain", URLENCODED, URLENCODED,
         "multipart/form-data", "multipart/form-data"]
    ),
    parameter=st.sampled_from(["", "; charset=utf-8", ";q=1"]),
    body=st.sampled_from([b"", b"a", b"ab", b"1:a", b"field"]),
    fields=PAIRS,
    files=FILES,
    boundary=st.sampled_from(["b0", "b1", "----WebKitFormBoundary7MA4YWxk"]),
    header=st.none() | st.sampled_from(["k", "other"]),
)  # fmt: skip


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[Spec, Spec]:
    """Two requests that differ in few things."""
    one, donor = draw(SPECS), draw(SPECS)
    names = draw(st.sets(st.sampled_from(list(Spec.__dataclass_fields__)), max_size=3))
    return one, replace(one, **{name: getattr(donor, name) for name in names})
