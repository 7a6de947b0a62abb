"""W7: what a body costs that the library reads; ``test_large_bodies`` measures real servers."""

from __future__ import annotations

import gc
import hashlib
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator

import pytest
from flask import Flask, request
from werkzeug.wrappers import Request

from flask_idempotent.http.bodies import Body
from flask_idempotent.http.fingerprints import digest_form
from flask_idempotent.http.tracked_input import CHUNK_SIZE
from flask_idempotent.settings import resolve
from tests.support.clients import WayIn, post
from tests.support.request_bodies import MULTIPART, URLENCODED, as_file, request_of
from tests.support.worst_bodies import MIB, WORST, worst_body

FILE = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n12345\r\n--b--\r\n'
SMALL = {"application/json": b"{}", URLENCODED: b"a=1", MULTIPART: FILE}


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the collector of cycles, what is in a cycle stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class TestCycles:
    @pytest.mark.usefixtures("no_collector")
    @pytest.mark.parametrize("kind", SMALL)
    def test_w7_request_is_gone_when_it_is_answered(self, way: WayIn, kind: str) -> None:
        """W7: a request and its body are freed at once, with a key and without, as by Flask."""
        app = way.app()
        alive = requests_of(app)
        app.add_url_rule("/", "view", way(lambda: f"{len(request.get_data())}"), methods=["POST"])
        for key in (None, "one", "one"):
            answer = post(app, key, data=SMALL[kind], content_type=kind)
            assert answer.data == b"%d" % len(SMALL[kind])
        assert [seen() for seen in alive] == [None] * 3


def requests_of(app: Flask) -> list[weakref.ref[Request]]:
    """References to the requests that an application is about to serve."""
    requests: list[weakref.ref[Request]] = []

    @app.before_request
    def note() -> None:
        requests.append(weakref.ref(request._get_current_object()))  # type: ignore[attr-defined]
        # Flask 3.2 leaves this cycle of Werkzeug's to the collector.
        request.environ["werkzeug.request"] = None

    return requests


def look(kind: str, content: bytes) -> object:
    return body_of(kind, content).find_field("__idempotent_key")


def digest(kind: str, content: bytes) -> object:
    return digest_form(body_of(kind, content), resolve({}))


def body_of(kind: str, content: bytes) -> Body:
    return Body(request_of(as_file(content), kind), None)


@pytest.mark.parametrize("read", [look, digest])
@pytest.mark.parametrize("name", WORST)
class TestWorstForms:
    """Without a key the field is looked for; with one, the form is digested as well."""

    def test_w7_time(self, name: str, read: Callable[[str, bytes], object]) -> None:
        """W7: it takes a small multiple of the time to digest the bytes, whatever the form holds.

        At most 40 times, measured with coverage. A parser that splits the form takes 1,500 times.
        """
        kind, content = worst_body(name, MIB)
        yardstick = cpu_time(lambda: hashlib.sha256(content).digest())
        assert cpu_time(lambda: read(kind, content)) < 200 * yardstick

    def test_w7_memory(self, name: str, read: Callable[[str, bytes], object]) -> None:
        """W7: it takes a few chunks of memory, however long the form is."""
        kind, content = worst_body(name, 8 * MIB)
        tracemalloc.start()
        try:
            read(kind, content)
            assert tracemalloc.get_traced_memory()[1] < 4.5 * CHUNK_SIZE
        finally:
            tracemalloc.stop()


def cpu_time(act: Callable[[], object]) -> float:
    """Seconds of the processor that it takes at best: others that are running do not count."""

    def once() -> float:
        began = time.thread_time()
        act()
        return time.thread_time() - began

    return min(once() for _ in range(3))
